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
import time

import numpy as np

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
    reduce.add_argument("--workers", type=lambda text: [int(one) for one in text.split(",")], default=[1, 2, 4])
    worker = commands.add_parser("worker")
    worker.add_argument("--number", type=int)
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
    pictures = config.data.image_size**2 * config.data.image_channels * d_steps * batch
    print(f"{options.config}: batch {batch}, {d_steps} D update(s) per step\n")
    print(f"generator {g / 1e9:.2f} GFLOP per image forward, {parameters[0]:,} parameters")
    print(f"discriminator {d / 1e9:.2f} GFLOP per image forward, {parameters[1]:,} parameters")
    print(f"one step: {per_image * batch / 1e12:.2f} TFLOP, {exchanged / 1e6:.0f} MB of gradients, "
          f"{pictures / 1e6:.1f} MB of uint8 images\n")  # fmt: skip
    rates = options.teraflops * 1e12, options.gigabytes * 1e9, options.microseconds * 1e-6
    print(f"{options.teraflops:g} TFLOP/s, {options.gigabytes:g} GB/s, {options.microseconds:g} us per message")
    for title, batches in (
        (f"Same run: global batch size {batch}", {count: batch // count for count in COUNTS if batch % count == 0}),
        (f"Larger batches: {options.batch_each} per accelerator", {count: options.batch_each for count in COUNTS}),
    ):
        print(f"\n{title}\n\n| accelerators | batch size each | compute, ms | all-reduce, ms | step, ms | images/s | "
              "efficiency | input, MB/s |\n" + "|" + "---|" * 8)  # fmt: skip
        for count, each in batches.items():
            print_row(count, each, per_image, exchanged, pictures / batch, d_steps, rates)


def print_row(count, each, flops, exchanged, picture_bytes, d_steps, rates):
    rate, bandwidth, latency = rates
    compute = flops * each / rate
    together = ring_seconds(count, exchanged, bandwidth, latency)
    step = compute + together
    megabytes = picture_bytes * each * count / step / 1e6
    print(f"| {count} | {each} | {1e3 * compute:.1f} | {1e3 * together:.1f} | {1e3 * step:.1f} | "
          f"{d_steps * each * count / step:.0f} | {compute / step:.0%} | {megabytes:.0f} |")  # fmt: skip


def print_all_reduce(options):
    found = {count: start_workers(count) for count in sorted({*options.workers, 2})}
    sizes = 4 * np.array(SIZES)
    # Two workers: t = 2 latency + size / bandwidth.
    slope, intercept = np.polyfit(sizes, [found[2][size] for size in SIZES], 1)
    bandwidth, latency = 1 / slope, max(intercept / 2, 0)
    print(f"{len(os.sched_getaffinity(0))} cores, loopback, medians of {TIMES}; fitted to 2 workers: "
          f"{bandwidth / 1e9:.2f} GB/s, {1e3 * latency:.2f} ms per message\n")  # fmt: skip
    print("| workers | MB | measured, ms | predicted, ms |\n|---|---|---|---|")
    for count, times in found.items():
        for size in SIZES:
            predicted = ring_seconds(count, 4 * size, bandwidth, latency)
            print(f"| {count} | {4 * size / 1e6:.1f} | {1e3 * times[size]:.1f} | {1e3 * predicted:.1f} |")


def start_workers(count):
    """Starts workers; returns number of floats -> seconds, measured by worker 0."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "worker", "--number", str(i)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "TF_CONFIG": json.dumps(
                {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}})},
        )
        for i in range(count)
    ]  # fmt: skip
    first = json.loads(processes[0].communicate()[0].splitlines()[-1])
    for process in processes:
        process.wait()
    return {int(size): seconds for size, seconds in first.items()}


def measure_all_reduce(options):
    import tensorflow as tf

    from sagan_tf.training.distribution import make_strategy

    strategy, found = make_strategy(), {}
    for size in SIZES:
        with strategy.scope():
            vector = tf.Variable(tf.ones(size))

        @tf.function
        def total(vector=vector):
            context = tf.distribute.get_replica_context
            return strategy.run(lambda: tf.reduce_sum(context().all_reduce("SUM", tf.identity(vector))[:1]))

        times = []
        for turn in range(TIMES + 3):
            began = time.perf_counter()
            value = strategy.experimental_local_results(total())[0]
            value.numpy()
            if turn >= 3:
                times.append(time.perf_counter() - began)
        found[size] = float(np.median(times))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
