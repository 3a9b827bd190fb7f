"""Counts the operations of a training step as on one GPU, which need not be there: exact, the same on every machine.

    python benchmarks/step_operations.py
    python benchmarks/step_operations.py --configs quickstart --batch_size 64

Without XLA a GPU spends some microseconds on the launch of each operation. `traced` are the operations of the graph as
Python wrote it, those of a function once per call, both branches of a condition, the body of a loop once. `run` is what
is left of them after TensorFlow's optimizer, `computing` those of `run` that make new numbers: no constants, reshapes,
reads of variables. Casts are among them. `MiB` is what the computing operations read and write, each tensor once per
operation, variables too. The step is not run.
"""

import argparse
import collections
import contextlib
import math
import os
from pathlib import Path

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # its operations are for CPUs
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the same device everywhere

import tensorflow as tf
from reporting import describe_machine, markdown_table, write_json
from tensorflow.python.eager import cancellation, context
from tensorflow.python.ops.handle_data_util import get_resource_handle_data

from sagan_tf.accelerate import convolution, fused
from sagan_tf.config import load_config
from sagan_tf.experiment.build import build_gan

CLASSES = {"cifar10": 10, "imagenet128_paper": 1000, "quickstart": 4}
PRECISIONS = ("float32", "mixed_bfloat16")
FORWARDING = {"Enter", "Identity", "Switch"}
NOT_COMPUTING = FORWARDING | {
    "_Arg", "_Retval", "Const", "Exit", "ExpandDims", "IdentityN", "LoopCond", "Merge", "NextIteration", "NoOp",
    "Placeholder", "PreventGradient", "ReadVariableOp", "Reshape", "Shape", "ShapeN", "Squeeze", "StopGradient",
    "StridedSlice",
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
        for precision in PRECISIONS:
            results[f"{name} {precision}"] = counts = count_step(name, precision, options.batch_size)
            rows.append([name, precision, *(f"{value:,}" for value in counts.values())])
    machine = describe_machine()
    print(f"TensorFlow {machine['tensorflow']}, Keras {machine['keras']}, {options.batch_size} images per update\n")
    print(markdown_table(["config", "precision", *counts], rows))
    if options.json:
        write_json(options.json, {"machine": machine, "batch_size": options.batch_size, "counts": results})


def make_parser():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--configs", nargs="+", choices=CLASSES, default=["cifar10", "imagenet128_paper"])
    parser.add_argument("--batch_size", type=int, default=8, help="images per update; only the bytes depend on it")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    return parser


def count_step(name, precision, batch_size):
    """Counts the operations of a step of a config, by name of the column."""
    config = load_config(["--config", name, "--hardware.precision", precision])
    gan = build_gan(config, Source(CLASSES[name]))
    size, rows = config.data.image_size, batch_size * config.training.d_steps
    batch = tf.zeros((rows, size, size, config.data.image_channels)), tf.zeros((rows,), tf.int32)
    function = tf.function(lambda image, label: gan.train_step((image, label))).get_concrete_function(*batch)
    nodes = optimized_nodes(function, batch)
    run = collections.Counter(node.op for node in nodes)
    return {
        "traced": sum(1 for _ in operations_of(function.graph)),
        "run": run.total(),
        "computing": sum(count for kind, count in run.items() if kind not in NOT_COMPUTING),
        "casts": run["Cast"],
        "MiB": round(count_bytes(nodes, function.inputs) / 2**20),
    }


def operations_of(graph):
    """Yields the operations of a graph, in place of one that calls functions those of the functions."""
    for operation in graph.get_operations():
        functions = called_functions(operation.node_def)
        for function in functions:
            yield from operations_of(graph._get_function(function).graph)
        if not functions and operation.type != "Placeholder":
            yield operation


def called_functions(node):
    """Names of the functions that a node calls, such as the branches of a condition."""
    values = [function for value in node.attr.values() for function in (value.func, *value.list.func)]
    return [function.name for function in values if function.name]


def optimized_nodes(function, batch):
    """Lists the nodes that TensorFlow's optimizer makes of a concrete function, as before a call on this machine."""
    context.context().enable_run_metadata()
    canceled = cancellation.CancellationManager()
    canceled.start_cancel()
    with cancellation.CancellationManagerContext(canceled), contextlib.suppress(tf.errors.CancelledError):
        function(*batch)
    tf.identity(batch[0])  # the next operation that succeeds hands the graphs over
    calls = context.context().export_run_metadata().function_graphs
    context.context().disable_run_metadata()
    nodes = max((graph.node for call in calls for graph in call.partition_graphs), key=len)  # one graph per device
    if missing := {name for node in nodes for name in called_functions(node)}:
        raise ValueError(f"TensorFlow has left functions in the graph, which are not counted: {missing}.")
    return nodes


def count_bytes(nodes, inputs):
    """Bytes that the computing nodes of a function of `inputs` read and write, but for cuDNN's work space.

    Raises ValueError where a shape is not known, as in a loop.
    """
    by_name = {node.name: node for node in nodes}

    def variable_of(name):
        """Data type and shape of the variable of a resource."""
        node = by_name[name.partition(":")[0]]
        if node.op in FORWARDING:
            return variable_of(node.input[0])
        (variable,) = get_resource_handle_data(inputs[node.attr["index"].i]).shape_and_type
        return variable.dtype, variable.shape

    # In graphs of unknown age a placeholder of a scalar is one of unknown shape.
    definition = tf.compat.v1.GraphDef(versions={"producer": tf.version.GRAPH_DEF_VERSION})
    for node in nodes:
        if node.op == "_Arg":
            tensor = inputs[node.attr["index"].i]
            add_placeholder(definition, node.name, tensor.dtype.as_datatype_enum, tensor.shape.as_proto())
        elif node.op == "ReadVariableOp":  # whose shape is unknown without the variable
            add_placeholder(definition, node.name, *variable_of(node.input[0]))
        elif node.op != "_Retval":
            definition.node.add().CopyFrom(node)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
    total = 0
    for operation in graph.get_operations():
        for tensor in (*operation.inputs, *operation.outputs) if operation.type not in NOT_COMPUTING else ():
            if tensor.dtype == tf.resource:
                passes = 1 if operation.type == "AssignVariableOp" else 2  # others read it too
                dtype, shape = variable_of(tensor.op.name)
                total += passes * bytes_of(tf.dtypes.as_dtype(dtype), tf.TensorShape(shape))
            elif tensor.shape.rank is not None or "FusedBatchNorm" not in operation.type:
                total += bytes_of(tensor.dtype, tensor.shape)
    return total


def add_placeholder(definition, name, dtype, shape):
    node = definition.node.add(name=name, op="Placeholder")
    node.attr["dtype"].type = dtype
    node.attr["shape"].shape.CopyFrom(shape)


def bytes_of(dtype, shape):
    return math.prod(shape.as_list()) * dtype.size


if __name__ == "__main__":
    main()
