"""Inference speed of a generator: exported, as a Keras model, and PyTorch eager and compiled.

    python benchmarks/generator_speed.py --torch_python .venv-torch/bin/python --json speed.json --figure speed.png

The same networks with random weights, float32, one batch of images at a time as NumPy arrays. The contenders run
interleaved as in `training_speed.py`, with the same options: `saved_model` is the signature of the exported SavedModel,
`folded` its graph before the export, `predict` the Keras method of the network as trained. The peer divides its kernels
by sigma once, at the start. Text: docs/performance.md.
"""

from training_speed import make_parser, run

CONTENDERS = (
    "peer generator",
    "peer generator channels_last",
    "peer generator compile",
    "peer generator compile channels_last",
    "ours generator=predict",
    "ours generator=folded",
    "ours generator=saved_model",
)


if __name__ == "__main__":
    parser = make_parser(__doc__, CONTENDERS, steps=4)
    parser.set_defaults(batch=32)
    run(parser.parse_args())
