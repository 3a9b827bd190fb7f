"""Speed of our networks on Keras' JAX backend against PyTorch's; needs no TensorFlow.

    python benchmarks/backend_speed.py --channels 64 --batch 64 --json card.json

For each size and network, a step is one forward and backward pass in training: the gradients of all weights of the mean
output, with a power iteration of each kernel and new moving statistics. Both are compiled, channels last, in bfloat16.
PyTorch runs in the Python of `--torch_python`, this one unless given. Contenders, rounds, options and files are as in
`training_speed.py`, except that `--threads` does not limit JAX. Text: docs/gpu.md.
"""

import subprocess
import sys

from training_speed import make_parser, run

CONTENDERS = (
    "peer channels_last bfloat16 compile",
    "peer channels_last bfloat16",
    "jax precision=mixed_bfloat16",
)


def main():
    parser = make_parser(__doc__, CONTENDERS, steps=20)
    parser.set_defaults(torch_python=sys.executable)
    options = parser.parse_args()
    for python, package in ((sys.executable, "keras"), (sys.executable, "jax"), (options.torch_python, "torch")):
        code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
        if subprocess.run([python, "-c", code]).returncode:
            raise SystemExit(f"{python} has no {package}. Install it there, or see --torch_python. Text: docs/gpu.md.")
    run(options, networks=("generator", "discriminator"))


if __name__ == "__main__":
    main()
