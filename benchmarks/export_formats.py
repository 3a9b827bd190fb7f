"""Compares the formats of an exported generator: file size, latency, and difference from the original's images.

    python benchmarks/export_formats.py RUN

Prints two Markdown tables for a run folder, in about a minute on two cores for a 32 px generator: the gain from
folding, and the formats side by side. Needs `pip install '.[tflite,onnx]'`. Times are medians of interleaved calls, so
that load on the machine affects all alike. The Fréchet distance is computed as for FID, but with features of the run's
own discriminator before its last layer, the only network available everywhere. Text: docs/export.md.
"""

import argparse
import functools
import os
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from reporting import describe_machine, markdown_table
from timing import interleaved_medians

import sagan_tf  # noqa: F401  registers the layers
from sagan_tf.data import embedded, rules
from sagan_tf.evaluation import frechet_distance
from sagan_tf.experiment.loading import restore_networks
from sagan_tf.export import export_onnx, export_saved_model, export_tflite, fold_generator
from sagan_tf.generation.pixels import to_levels
from sagan_tf.runs.folder import Run

BATCHES = (1, 8, 64)
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", help="run folder")
    parser.add_argument("--images", type=int, default=1000, help="images to measure errors on (default 1000)")
    parser.add_argument("--calls", type=int, default=30, help="timed calls per batch size (default 30)")
    options = parser.parse_args()
    run = Run.open(options.run)
    networks, data = restore_networks(run, discriminator=True), run.config().data.name
    generator, features = networks.generator, feature_caller(networks.discriminator)
    folded = fold_generator(generator)
    inputs = draw_inputs(folded, options.images)
    machine = describe_machine()
    print(f"{machine['cpu']}, {CORES} cores, TensorFlow {machine['tensorflow']}, {options.images} images\n")
    print(folding_table(generator, folded, inputs, options.calls) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        print(format_table(generator, make_formats(folded, Path(folder)), inputs, options.calls, data, features))


def draw_inputs(folded, count, seed=0):
    """Draws latents (N, D) and, with classes, labels (N,)."""
    latent = np.random.default_rng(seed).standard_normal((count, folded.latent_dim), np.float32)
    return (latent,) if folded.num_classes is None else (latent, np.arange(count, dtype=np.int32) % folded.num_classes)


def graph_of(model):
    """Returns a model as a graph function of (latent, label)."""
    return tf.function(lambda *x: model(list(x) if len(x) > 1 else x[0], training=False), autograph=False)


def count_operations(function, inputs):
    """Counts the nodes of the graph and of the functions it calls."""
    specs = [tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in inputs]
    definition = function.get_concrete_function(*specs).graph.as_graph_def()
    return len(definition.node) + sum(len(function.node_def) for function in definition.library.function)


def folding_table(generator, folded, inputs, calls):
    graphs = {"as trained": graph_of(generator), "folded": graph_of(folded.model)}
    callers = {name: lambda *x, graph=graph: graph(*x).numpy() for name, graph in graphs.items()}
    times = {batch: median_milliseconds(callers, [x[:batch] for x in inputs], calls) for batch in BATCHES}
    images = {name: in_parts(caller, inputs) for name, caller in callers.items()}
    rows = [
        [name, count_operations(graphs[name], inputs), *(f"{times[batch][name]:.2f}" for batch in BATCHES)]
        for name in graphs
    ]
    error = abs(images["folded"] - images["as trained"]).max()
    heads = ["generator", "graph nodes", *(f"ms, batch {batch}" for batch in BATCHES)]
    return f"{markdown_table(heads, rows)}\n\nLargest difference of the images, in [-1, 1]: {error:.1e}"


def make_formats(folded, folder):
    """Writes every format; returns name -> (bytes, function of latents and labels)."""
    saved_model = export_saved_model(folded, folder / "sagan", warm_up=False)
    size = sum(path.stat().st_size for path in saved_model.rglob("*") if path.is_file())
    formats = {"SavedModel": (size, saved_model_caller(saved_model))}
    for variant, path in export_tflite(folded, folder / "tflite").items():
        formats[f"TFLite {variant}"] = (path.stat().st_size, tflite_caller(path))
    path = export_onnx(folded, folder / "generator.onnx")
    return formats | {"ONNX": (path.stat().st_size, onnx_caller(path))}


def feature_caller(discriminator):
    """Returns a function of images (N, S, S, C) to the inputs of the discriminator's last layer (N, F)."""
    model = keras.Model(discriminator.inputs, discriminator.get_layer("output_dense").input)

    def call(images):
        labels = [np.zeros(len(images), np.int32)] * (len(model.inputs) - 1)
        return model.predict([images, *labels], batch_size=100, verbose=0)

    return call


NAMES = ("latent", "label")


def saved_model_caller(path):
    loaded = tf.saved_model.load(str(path))  # must outlive the signature
    signature = loaded.signatures["serving_default"]

    def call(*inputs, keep=loaded):
        return signature(**{name: tf.constant(x) for name, x in zip(NAMES, inputs)})["image"].numpy()

    return call


def tflite_caller(path):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path), num_threads=CORES).get_signature_runner("serving_default")
    return lambda *inputs: runner(**dict(zip(NAMES, inputs)))["image"]


def onnx_caller(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = CORES, 3
    session = onnxruntime.InferenceSession(path, options)
    return lambda *inputs: session.run(["image"], dict(zip(NAMES, inputs)))[0]


def format_table(generator, formats, inputs, calls, data, features):
    def predict(*x):
        return generator.predict(list(x) if len(x) > 1 else x[0], batch_size=len(x[0]), verbose=0)

    callers = {"Keras `predict`, as trained": predict} | {name: caller for name, (_, caller) in formats.items()}
    times = {batch: median_milliseconds(callers, [x[:batch] for x in inputs], calls) for batch in BATCHES}
    original, rows = in_parts(predict, inputs), []
    original_features = features(original)
    other = np.random.default_rng(1).standard_normal(inputs[0].shape, np.float32)
    noise = frechet_distance(features(in_parts(predict, (other, *inputs[1:]))), original_features)
    for name, caller in callers.items():
        images = in_parts(caller, inputs)
        size = f"{formats[name][0] / 1e6:.2f}" if name in formats else "-"
        rows.append([name, size, *(f"{times[batch][name]:.2f}" for batch in BATCHES), *errors(images, original)])
        rows[-1].append(f"{frechet_distance(features(images), original_features):.2g}")
        if data in embedded.NAMES:
            rows[-1].append(f"{rules.score(data, to_levels(images), *inputs[1:])['score']:.3f}")
    heads = ["format", "MB", *(f"ms, batch {batch}" for batch in BATCHES), "max error", "PSNR, dB", "Fréchet distance"]
    return (
        markdown_table(heads + (["rule score"] if data in embedded.NAMES else []), rows)
        + f"\n\nFréchet distance of the same generator with other latents: {noise:.2g}"
    )


def errors(images, original):
    """Largest difference in [-1, 1], and PSNR in dB for the peak-to-peak range of 2."""
    difference = np.float64(images) - original
    square = np.mean(difference**2)
    return f"{abs(difference).max():.1e}", f"{10 * np.log10(4 / square):.1f}" if square else "inf"


def in_parts(caller, inputs, size=100):
    starts = range(0, len(inputs[0]), size)
    return np.concatenate([caller(*(x[start : start + size] for x in inputs)) for start in starts])


def median_milliseconds(callers, inputs, calls):
    functions = {name: functools.partial(caller, *inputs) for name, caller in callers.items()}
    return {name: 1e3 * seconds for name, seconds in interleaved_medians(functions, calls, warm_up=3).items()}


if __name__ == "__main__":
    main()
