"""Counts the operations of a training step as on one GPU, which need not be there: exact, the same on every machine.

    python benchmarks/step_operations.py
    python benchmarks/step_operations.py --configs cifar10 --batch_size 64

Without XLA a GPU spends some microseconds on the launch of each operation. `traced` are the operations of the graph as
Python wrote it, those of a function once per call; `run` what is left of them after TensorFlow's optimizer, `computing`
those of `run` that make new numbers: no constants, reshapes, reads of variables. Casts are among them. `MiB` is what
the traced operations that compute write, in tensors whose shape is known.
"""

import argparse
import collections
import math
import os
from pathlib import Path

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # its operations are for CPUs

import tensorflow as tf
from reporting import describe_machine, markdown_table, write_json
from tensorflow.python.eager import context

from sagan_tf.accelerate import convolution, fused
from sagan_tf.config import load_config
from sagan_tf.experiment.build import build_gan

CLASSES = {"cifar10": 10, "imagenet128_paper": 1000, "quickstart": 12}
NOT_COMPUTING = {
    "_Arg", "_Retval", "Const", "ExpandDims", "Identity", "IdentityN", "NoOp", "Placeholder", "PreventGradient",
    "ReadVariableOp", "Reshape", "Shape", "ShapeN", "Squeeze", "StopGradient", "StridedSlice",
}  # fmt: skip


class Source:
    """What `build_gan` asks of a data set."""

    def __init__(self, num_classes):
        self.num_classes = num_classes


def main():
    options = make_parser().parse_args()
    fused.is_on_gpu, convolution.is_tensorflow_on_cpu = lambda: True, lambda: False
    rows, results = [], {}
    for name in options.configs:
        results[name] = counts = count_step(name, options.batch_size)
        rows.append([name, *(f"{value:,}" for value in counts.values())])
    machine = describe_machine()
    print(f"TensorFlow {machine['tensorflow']}, Keras {machine['keras']}, {options.batch_size} images per update\n")
    print(markdown_table(["config", *counts], rows))
    if options.json:
        write_json(options.json, {"machine": machine, "batch_size": options.batch_size, "counts": results})


def make_parser():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--configs", nargs="+", choices=CLASSES, default=list(CLASSES))
    parser.add_argument("--batch_size", type=int, default=8, help="images per update; only the bytes depend on it")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    return parser


def count_step(name, batch_size):
    """Counts the operations of a step of a config, by name of the column."""
    config = load_config(["--config", name, "--hardware.precision", "float32"])
    gan = build_gan(config, Source(CLASSES[name]))
    size, rows = config.data.image_size, batch_size * config.training.d_steps
    batch = tf.zeros((rows, size, size, config.data.image_channels)), tf.zeros((rows,), tf.int32)
    function = tf.function(lambda image, label: gan.train_step((image, label)))
    traced = list(operations_of(function.get_concrete_function(*batch).graph))
    context.context().enable_run_metadata()
    function(*batch)
    graphs = context.context().export_run_metadata().function_graphs[-1].partition_graphs
    run = collections.Counter(node.op for graph in graphs for node in graph.node)
    context.context().disable_run_metadata()
    return {
        "traced": len(traced),
        "run": sum(run.values()),
        "computing": sum(count for kind, count in run.items() if kind not in NOT_COMPUTING),
        "casts": run["Cast"],
        "MiB": round(sum(map(bytes_of, traced)) / 2**20),
    }


def operations_of(graph):
    """Yields the operations of a graph, those of a called function once per call."""
    for operation in graph.get_operations():
        if operation.type in ("PartitionedCall", "StatefulPartitionedCall"):
            yield from operations_of(graph._get_function(operation.get_attr("f").name).graph)
        elif operation.type != "Placeholder":
            yield operation


def bytes_of(operation):
    """Bytes that an operation writes; 0 where it does not compute, or a shape is not known."""
    if operation.type in NOT_COMPUTING:
        return 0
    known = [output for output in operation.outputs if output.shape.is_fully_defined()]
    return sum(math.prod(output.shape) * output.dtype.size for output in known)


if __name__ == "__main__":
    main()
