"""Memory and time of self-attention by map size: the whole score matrix against blocks of queries.

    python benchmarks/attention_memory.py --json attention_memory.json --figure docs/figures/attention_memory.png

Runs one forward and backward pass of `SelfAttention` alone. Each row is a separate process; its peak memory is the peak
resident set size minus that before the first pass (TensorFlow, weights, inputs). The first pass, which also traces, is
excluded from the times but not from the memory. The variants run interleaved, and the medians over the rounds are
printed. On a busy machine, `--clock processor --threads 1` measures CPU time instead of wall time. The chart needs
matplotlib (`pip install '.[docs]'`). Text: docs/performance.md.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

PATHS = ("plain", "auto")
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
TITLES = {"plain": "whole matrix", "auto": "default (by size)"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=numbers, default=[16, 32, 48, 64, 96, 128], help="side of the map, px")
    parser.add_argument("--pool_sizes", type=numbers, default=[2, 1], help="pooling of key and value (default 2,1)")
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", default="float32", help="dtype policy (default float32)")
    parser.add_argument("--rounds", type=int, default=3, help="processes per row (default 3)")
    parser.add_argument("--passes", type=int, default=3, help="timed passes per process (default 3)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="wall or CPU time (default wall)")
    parser.add_argument("--threads", type=int, help="TensorFlow threads (default: all cores)")
    parser.add_argument("--limit_gib", type=float, default=8.0, help="run larger score matrices in blocks only; "
                        "the whole-matrix variant holds about four (default 8)")  # fmt: skip
    parser.add_argument("--json", help="file for the measurements; - prints JSON instead of the table")
    parser.add_argument("--figure", type=Path, help="file for the chart")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(options, **json.loads(options.worker))))
        return
    result = {"machine": machine(), "options": described(options), "rows": compare(options)}
    text = json.dumps(result, indent=1)
    if options.json == "-":
        print(text)
        return
    print(f"{summary(result)}\n\n{table(result['rows'])}")
    if options.json:
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    if options.figure:
        draw(result, options.figure)


def numbers(text):
    return [int(one) for one in text.split(",")]


def described(options):
    return {name: value for name, value in vars(options).items() if name not in ("json", "figure", "worker")}


def machine():
    from sagan_tf.runs.environment import describe_environment

    found = describe_environment()
    return {name: found[name] for name in ("cpu", "cpu_cores", "python", "tensorflow", "keras")}


def compare(options):
    wanted = [
        {"path": path, "size": size, "pool_size": pool}
        for pool in options.pool_sizes
        for size in options.sizes
        for path in PATHS
        if path != "plain" or 4 * size**4 / pool**2 * 4 * options.batch < options.limit_gib * 2**30
    ]
    found = [[] for _ in wanted]
    for _ in range(options.rounds):
        for one, results in zip(wanted, found):
            results.append(start(one))
    medians = [{key: float(np.median([r[key] for r in results])) for key in results[0]} for results in found]
    return [one | values for one, values in zip(wanted, medians)]


def start(one):
    """Measures in a new process, with the options of this one."""
    command = [sys.executable, __file__, *sys.argv[1:], "--worker", json.dumps(one)]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(options, path, size, pool_size):
    import tensorflow as tf

    from sagan_tf.layers import SelfAttention

    if options.threads:
        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
        tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    block = size * size if path == "plain" else None
    layer = SelfAttention(pool_size=pool_size, query_block_size=block, dtype=options.dtype)
    shape, rng = (options.batch, size, size, options.channels), np.random.default_rng(0)
    x, upstream = (tf.constant(rng.standard_normal(shape, np.float32)) for _ in range(2))
    layer.build(shape)
    layer.gamma.assign(1.0)
    weights = [weight.value for weight in layer.trainable_weights]

    @tf.function
    def one_pass():
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(upstream * tf.cast(layer(x, training=True), "float32"))
        return tape.gradient(loss, [x, *weights])

    before, times, clock = resident_mib("VmRSS"), [], CLOCKS[options.clock]
    for _ in range(options.passes + 1):
        began = clock()
        [gradient.numpy() for gradient in one_pass()]
        times.append(clock() - began)
    return {"peak_mib": resident_mib("VmHWM") - before, "milliseconds": 1e3 * float(np.median(times[1:]))}


def resident_mib(name):
    """Resident memory: `VmRSS` is the current value, `VmHWM` the peak; Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {name}: memory is measured on Linux only")


def summary(result):
    made, options = result["machine"], result["options"]
    threads = f", {options['threads']} thread(s)" if options["threads"] else ""
    return (
        f"{made['cpu']}, {made['cpu_cores']} cores{threads}, {options['clock']} time, TensorFlow {made['tensorflow']}, "
        f"Keras {made['keras']}; {options['dtype']}, batch {options['batch']}, {options['channels']} channels; medians "
        f"of {options['rounds']} processes of {options['passes']} passes"
    )


def table(rows):
    heads = ["map", "keys", "scores, MiB", "memory, MiB: whole", "default", "ms: whole", "default"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    found = {(row["pool_size"], row["size"], row["path"]): row for row in rows}
    for pool, size in dict.fromkeys((row["pool_size"], row["size"]) for row in rows):
        keys = (size // pool) ** 2
        cells = [f"{size}x{size}", f"{keys:,}", f"{4 * size**2 * keys / 2**20:,.1f}"]
        for key, form in (("peak_mib", "{:,.0f}"), ("milliseconds", "{:,.0f}")):
            both = (found.get((pool, size, path)) for path in PATHS)
            cells += [form.format(row[key]) if row else "-" for row in both]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


COLOURS = {"plain": "#d9541e", "auto": "#1b66b3"}


def draw(result, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    style = {"axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11, "axes.titleweight": "bold"}
    with pyplot.rc_context(style | {"axes.grid": True, "grid.alpha": 0.25}):
        figure, both = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
        for axes, (key, title) in zip(both, {"peak_mib": "Memory, MiB", "milliseconds": "Time, ms"}.items()):
            for pool in result["options"]["pool_sizes"]:
                for name in PATHS:
                    rows = [row for row in result["rows"] if (row["pool_size"], row["path"]) == (pool, name)]
                    line = "-" if pool == 1 else "--"
                    axes.plot([row["size"] ** 2 for row in rows], [row[key] for row in rows], line, marker="o",
                              markersize=4, color=COLOURS[name])  # fmt: skip
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xlabel("positions")
            axes.set_title(f"{title}, forward and backward pass", loc="left")
        handles = [Line2D([], [], color=COLOURS[name], linewidth=2.5, label=TITLES[name]) for name in PATHS]
        for pool in result["options"]["pool_sizes"]:
            handles.append(Line2D([], [], color="#555555", linestyle="-" if pool == 1 else "--",
                                  label="no pooling" if pool == 1 else f"keys pooled by {pool}"))  # fmt: skip
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
