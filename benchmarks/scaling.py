"""Predicts the cost of a training step on many accelerators, and measures the all-reduce on this machine.

    python benchmarks/scaling.py cost configs/imagenet128_paper.yaml
    python benchmarks/scaling.py all_reduce --workers 1,2,4

`cost` counts the FLOPs of a step, the bytes exchanged by workers and the bytes of images, and predicts the time on 1 to
256 accelerators from a given speed, bandwidth and latency. `all_reduce` starts workers on this machine that sum a
vector as training does, fits bandwidth and latency of the ring formula to two workers, and compares its predictions for
the others. Text: docs/scaling.md.
"""

import argparse
import json
import os
import socket
import subprocess
import sys

import numpy as np
from reporting import markdown_table, parse_ints
from timing import interleaved_medians

SIZES = (1 << 16, 1 << 20, 1 << 23)  # floats
TIMES = 15
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    cost = commands.add_parser("cost")
    cost.add_argument("config")
    cost.add_argument("--classes", type=int, default=1000)
    cost.add_argument("--teraflops", type=float, default=60.0, help="sustained speed of an accelerator (default 60)")
    cost.add_argument("--gigabytes", type=float, default=12.5, help="bandwidth, GB/s (default 12.5: 100 Gb/s)")
    cost.add_argument("--microseconds", type=float, default=20.0, help="latency of a message (default 20)")
    cost.add_argument("--batch_each", type=int, default=32, help="batch size each, second table (default 32)")
    reduce = commands.add_parser("all_reduce")
    reduce.add_argument("--workers", type=parse_ints, default=[1, 2, 4])
    commands.add_parser("worker")
    options = parser.parse_args()
    {"cost": print_cost, "all_reduce": print_all_reduce, "worker": measure_all_reduce}[options.command](options)


def ring_seconds(count, size, bandwidth, latency):
    """Time of a ring all-reduce of `size` bytes over `count` workers (Patarasuk and Yuan 2009)."""
    return 2 * (count - 1) * (latency + size / count / bandwidth)


def print_cost(options):
    from flops import flops_of, flops_of_step

    from sagan_tf.config import read_config
    from sagan_tf.experiment.build import build_networks

    config = read_config(options.config)
    batch, d_steps = config.training.batch_size, config.training.d_steps
    generator, discriminator = build_networks(config, options.classes)
    g, d = flops_of(generator), flops_of(discriminator)
    per_image = flops_of_step(generator, discriminator, d_steps)
    parameters = [sum(int(np.prod(w.shape)) for w in net.trainable_variables) for net in (generator, discriminator)]
    exchanged = 4 * (parameters[0] + d_steps * parameters[1])
    image_bytes = config.data.image_size**2 * config.data.image_channels * d_steps * batch
    print(f"{options.config}: batch {batch}, {d_steps} D update(s) per step\n")
    print(f"generator {g / 1e9:.2f} GFLOP per image forward, {parameters[0]:,} parameters")
    print(f"discriminator {d / 1e9:.2f} GFLOP per image forward, {parameters[1]:,} parameters")
    print(f"one step: {per_image * batch / 1e12:.2f} TFLOP, {exchanged / 1e6:.0f} MB of gradients, "
          f"{image_bytes / 1e6:.1f} MB of uint8 images\n")  # fmt: skip
    rates = options.teraflops * 1e12, options.gigabytes * 1e9, options.microseconds * 1e-6
    print(f"{options.teraflops:g} TFLOP/s, {options.gigabytes:g} GB/s, {options.microseconds:g} us per message")
    for title, batches in (
        (f"Same run: global batch size {batch}", {count: batch // count for count in COUNTS if batch % count == 0}),
        (f"Larger batches: {options.batch_each} per accelerator", {count: options.batch_each for count in COUNTS}),
    ):
        rows = [
            cost_row(count, batch_each, per_image, exchanged, image_bytes / batch, d_steps, rates)
            for count, batch_each in batches.items()
        ]
        heads = ["accelerators", "batch size each", "compute, ms", "all-reduce, ms", "step, ms", "images/s",
                 "efficiency", "input, MB/s"]  # fmt: skip
        print(f"\n{title}\n\n{markdown_table(heads, rows)}")


def cost_row(count, batch_each, flops, exchanged_bytes, image_bytes, d_steps, rates):
    rate, bandwidth, latency = rates
    compute = flops * batch_each / rate
    all_reduce = ring_seconds(count, exchanged_bytes, bandwidth, latency)
    step = compute + all_reduce
    return [
        count,
        batch_each,
        f"{1e3 * compute:.1f}",
        f"{1e3 * all_reduce:.1f}",
        f"{1e3 * step:.1f}",
        f"{d_steps * batch_each * count / step:.0f}",
        f"{compute / step:.0%}",
        f"{image_bytes * batch_each * count / step / 1e6:.0f}",
    ]


def print_all_reduce(options):
    times = {count: run_workers(count) for count in sorted({*options.workers, 2})}
    sizes = 4 * np.array(SIZES)
    # Two workers: t = 2 latency + size / bandwidth.
    seconds_per_byte, intercept = np.polyfit(sizes, [times[2][size] for size in SIZES], 1)
    bandwidth, latency = 1 / seconds_per_byte, max(intercept / 2, 0)
    print(f"{len(os.sched_getaffinity(0))} cores, loopback, medians of {TIMES}; fitted to 2 workers: "
          f"{bandwidth / 1e9:.2f} GB/s, {1e3 * latency:.2f} ms per message\n")  # fmt: skip
    rows = []
    for count, seconds in times.items():
        for size in SIZES:
            predicted = ring_seconds(count, 4 * size, bandwidth, latency)
            rows.append([count, f"{4 * size / 1e6:.1f}", f"{1e3 * seconds[size]:.1f}", f"{1e3 * predicted:.1f}"])
    print(markdown_table(["workers", "MB", "measured, ms", "predicted, ms"], rows))


def run_workers(count):
    """Runs workers; returns number of floats -> seconds, measured by worker 0."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    processes = []
    for i in range(count):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(task)}
        command = [sys.executable, __file__, "worker"]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment))
    output = processes[0].communicate()[0]
    for process in processes:
        process.wait()
    return {int(size): seconds for size, seconds in json.loads(output.splitlines()[-1]).items()}


def measure_all_reduce(options):
    import tensorflow as tf

    from sagan_tf.training.distribution import make_strategy

    strategy, sums = make_strategy(), {}
    for size in SIZES:
        with strategy.scope():
            vector = tf.Variable(tf.ones(size))

        @tf.function
        def total(vector=vector):
            context = tf.distribute.get_replica_context
            return strategy.run(lambda: tf.reduce_sum(context().all_reduce("SUM", tf.identity(vector))[:1]))

        sums[size] = lambda total=total: strategy.experimental_local_results(total())[0].numpy()
    times = {}
    for size, function in sums.items():  # one size after the other
        times |= interleaved_medians({size: function}, TIMES, warm_up=3)
    print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
