"""How close a training step comes to the speed of TensorFlow's convolutions alone, and where the rest of the time goes.

    python benchmarks/roofline.py --image_sizes 32,64,128 --torch_python .venv-torch/bin/python --json roofline.json

The attainable speed is the FLOPs over the time of TensorFlow's plain stride-1 convolutions with the shapes, batches and
dtype of the networks' largest ones (those that make up half of the FLOPs), forward and both gradients, each timed
alone. The speed of a step is the FLOPs of the published networks (`flops.py`) over its time. Both run interleaved, and
so does the fastest setting of the peer of `training_speed.py`, given `--torch_python`; this shows which share of the
attainable speed is twice the peer's. A second table has the time per kind of operation within a step, from TensorFlow's
profiler, in thread milliseconds (threads run in parallel). Prints Markdown. Text: docs/performance.md.
"""

import argparse
import collections
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))
from flops import convolutions_of, flops_of_step  # noqa: E402
from ours import build, data  # noqa: E402
from reporting import describe_machine, markdown_table, parse_ints, write_json  # noqa: E402
from timing import interleaved_medians, set_threads  # noqa: E402
from training_speed import BATCHES, Contender, specification  # noqa: E402

PEER = "peer channels_last bfloat16"
KINDS = {
    "convolutions, forward": ("Conv2D", "Conv2DWithBias", "FusedConv2D"),
    "convolutions, input gradients (and transposed convolutions)": ("Conv2DBackpropInput",),
    "convolutions, kernel gradients": ("Conv2DBackpropFilter", "Conv2DBackpropFilterWithBias"),
    "matrix products (1x1, small maps, attention, sigma)": ("MatMul", "BatchMatMulV2", "FusedMatMul"),
    "element-wise": (
        "Mul", "Cast", "AddV2", "AddN", "Sub", "Square", "Relu", "ReluGrad", "BiasAdd", "RealDiv", "SelectV2", "Tanh",
        "SaganTfRelu", "SaganTfReluGrad", "SaganTfAddScaled", "SaganTfAddScaledGrad", "SaganTfAddChannels",
    ),
    "sums and means": ("Sum", "Mean", "BiasAddGrad", "L2Loss", "SaganTfSumChannels"),
    "batch normalization": (
        "FusedBatchNormV3", "FusedBatchNormEx", "FusedBatchNormGradV3", "SaganTfNormalize", "SaganTfNormalizeGrad",
    ),
    "kernels over sigma (native operations)": (
        "SaganTfSingularVectors", "SaganTfScaleKernel", "SaganTfScaleKernelGrad",
    ),
    "softmax": ("Softmax",),
    "Adam": ("ResourceApplyAdam",),
    "copies, patches, up-sampling, pooling": (
        "StridedSlice", "StridedSliceGrad", "ConcatV2", "Pad", "Tile", "Transpose", "ResizeNearestNeighbor", "AvgPool",
        "AvgPoolGrad", "MaxPool", "MaxPoolGrad", "Slice",
    ),
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image_sizes", type=parse_ints, default=[32, 64, 128])
    parser.add_argument("--channels", type=int, default=32, help="base width (default 32)")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--precision", default="mixed_bfloat16", help="dtype policy (default mixed_bfloat16)")
    parser.add_argument("--native_operations", action="store_true", help="use hardware.native_operations")
    parser.add_argument("--rounds", type=int, default=9, help="repetitions of each measurement (default 9)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all cores")
    parser.add_argument("--torch_python", help="a Python with PyTorch, for the peer")
    parser.add_argument("--json", type=Path, help="file for the measurements")
    options = parser.parse_args()
    options.batch, options.environment = None, {}  # expected by `training_speed.py`
    set_threads(options.threads)
    machine = describe_machine()
    print(
        f"{machine['cpu']}, {options.threads} threads, TensorFlow {machine['tensorflow']}, Keras {machine['keras']}, "
        f"{options.channels} channels, {options.precision}, shared batch, "
        f"{'native operations, ' if options.native_operations else ''}medians of {options.rounds} rounds"
    )
    results = [measure(size, options) for size in options.image_sizes]
    print(f"\n{rates_table(results)}\n\n{operations_table(results)}\n\n{convolutions_table(results)}")
    if options.json:
        write_json(options.json, {"machine": machine, "sizes": results})


def measure(size, options):
    batch, spec = BATCHES[size], specification(size, options)
    native = {"native_operations": ""} if options.native_operations else {}
    gan = build(spec, {"precision": options.precision, "share_fake_batch": "", **native})
    train, batches = gan.make_train_function(), iter(data(spec))

    def step():
        return float(train(batches)["d_loss"])

    dtype = "bfloat16" if "bfloat16" in options.precision else "float32"
    functions, convolutions = {"step": step}, {}
    for network, images in ((gan.generator, batch), (gan.discriminator, 2 * batch)):
        for convolution in largest(convolutions_of(network)):
            for operation, function in convolution_functions(convolution, images, dtype).items():
                name = f"{network.name} {convolution.name}, {operation}"
                functions[name], convolutions[name] = function, (convolution, images)
    peer = Contender(PEER, spec, options) if options.torch_python else None
    if peer:
        peer.read_answer()
        functions["peer"] = lambda: peer.take_turn(1)
    times = interleaved_medians(functions, options.rounds)
    if peer:
        peer.end()
    convolution_flops = sum(convolution.flops * images for convolution, images in convolutions.values())
    attainable = convolution_flops / sum(times[name] for name in convolutions)
    flops = batch * flops_of_step(gan.generator, gan.discriminator, shared=True)
    kinds = profile(step)
    return {
        "size": size, "batch": batch, "step_seconds": times["step"], "step_flops": flops, "attainable_rate": attainable,
        "rate": flops / times["step"], "peer_seconds": times.get("peer"), "kinds": kinds,
        "convolutions": {
            name: {"shape": [images, convolution.size, convolution.inputs, convolution.outputs],
                   "ms": 1e3 * times[name], "rate": convolution.flops * images / times[name]}
            for name, (convolution, images) in convolutions.items()
        },
    }  # fmt: skip


def largest(convolutions):
    """Returns the convolutions that make up half of the FLOPs, largest first."""
    selected, half = [], sum(convolution.flops for convolution in convolutions) / 2
    for convolution in sorted(convolutions, key=lambda convolution: -convolution.flops):
        if sum(other.flops for other in selected) < half:
            selected.append(convolution)
    return selected


def convolution_functions(convolution, images, dtype):
    """name -> function that runs a TensorFlow convolution or one of its gradients."""
    rng = np.random.default_rng(0)

    def noise(*shape):
        return tf.constant(rng.normal(size=shape), dtype)

    x = noise(images, convolution.size, convolution.size, convolution.inputs)
    upstream = noise(images, convolution.size, convolution.size, convolution.outputs)
    kernel = noise(convolution.kernel, convolution.kernel, convolution.inputs, convolution.outputs)
    options = dict(strides=[1, 1, 1, 1], padding="SAME")
    raw, sizes = tf.raw_ops, (tf.shape(x), tf.shape(kernel))
    operations = {
        "forward": lambda: raw.Conv2D(input=x, filter=kernel, **options),
        "input gradient": lambda: raw.Conv2DBackpropInput(
            input_sizes=sizes[0], filter=kernel, out_backprop=upstream, **options
        ),
        "kernel gradient": lambda: raw.Conv2DBackpropFilter(
            input=x, filter_sizes=sizes[1], out_backprop=upstream, **options
        ),
    }
    return {name: tf.function(operation) for name, operation in operations.items()}


def profile(step, steps=3):
    """kind of operation -> thread milliseconds per step."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        for _ in range(steps):
            step()
        tf.profiler.experimental.stop()
        (path,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    spent = collections.Counter()
    for plane in space.planes:
        for line in plane.lines if "CPU" in plane.name else ():
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if ":" in name:  # the name of an operation and its kind
                    kind = name.rpartition(":")[2].partition("#")[0].removeprefix("_Mkl").removeprefix("Native")
                    spent[kind] += event.duration_ps / 1e9 / steps
    kinds = {name: sum(spent.pop(kind.removeprefix("_"), 0) for kind in members) for name, members in KINDS.items()}
    # The graph itself and its executor are events too.
    whole = ("_inference", "__inference", "Run", "Process")
    kinds["others"] = sum(ms for kind, ms in spent.items() if kind.isidentifier() and not kind.startswith(whole))
    return kinds


def rates_table(results):
    heads = ["px", "batch", "step, ms", "GFLOP", "GFLOP/s", "attainable GFLOP/s", "share of attainable"]
    if results[0]["peer_seconds"]:
        heads += ["peer's step, ms", "ratio", "share at twice the peer"]
    rows = []
    for result in results:
        share = result["rate"] / result["attainable_rate"]
        row = [
            result["size"],
            result["batch"],
            f"{1e3 * result['step_seconds']:.0f}",
            f"{result['step_flops'] / 1e9:.0f}",
            f"{result['rate'] / 1e9:.0f}",
            f"{result['attainable_rate'] / 1e9:.0f}",
            f"{share:.0%}",
        ]
        if result["peer_seconds"]:
            ratio = result["peer_seconds"] / result["step_seconds"]
            row += [f"{1e3 * result['peer_seconds']:.0f}", f"{ratio:.2f}", f"{2 / ratio * share:.0%}"]
        rows.append(row)
    return markdown_table(heads, rows)


def operations_table(results):
    totals = [sum(result["kinds"].values()) for result in results]
    rows = []
    for kind in results[0]["kinds"]:
        times = [result["kinds"][kind] for result in results]
        rows.append([kind, *(f"{ms:.0f} ({ms / total:.0%})" for ms, total in zip(times, totals))])
    return markdown_table(["part of a step", *(f"{result['size']} px, ms" for result in results)], rows)


def convolutions_table(results):
    rows = []
    for result in results:
        for name, row in result["convolutions"].items():
            shape = ", ".join(map(str, row["shape"]))
            rows.append([f"{result['size']} px: {name}", shape, f"{row['ms']:.1f}", f"{row['rate'] / 1e9:.0f}"])
    return markdown_table(["alone", "images, px, in, out", "ms", "GFLOP/s"], rows)


if __name__ == "__main__":
    main()
