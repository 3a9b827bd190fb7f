"""Memory and time of self-attention by map size: the whole score matrix against blocks of queries.

    python benchmarks/attention_memory.py --json attention_memory.json --figure docs/figures/attention_memory.png

Runs one forward and backward pass of `SelfAttention` alone. Each row is a separate process; its peak memory is the peak
resident set size minus that before the first pass (TensorFlow, weights, inputs). The first pass, which also traces, is
excluded from the times but not from the memory. The variants run interleaved, and the medians over the rounds are
printed. On a busy machine, `--clock processor --threads 1` measures CPU time instead of wall time. The chart needs
matplotlib (`pip install '.[figures]'`). Text: docs/performance.md.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from peers.turns import resident_mib
from reporting import describe_machine, load_pyplot, markdown_table, parse_ints
from timing import CLOCKS, set_threads

VARIANTS = ("plain", "auto")
TITLES = {"plain": "whole matrix", "auto": "default (by size)"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=parse_ints, default=[16, 32, 48, 64, 96, 128], help="side of the map, px")
    parser.add_argument("--pool_sizes", type=parse_ints, default=[2, 1], help="pooling of key and value (default 2,1)")
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
    result = {"machine": describe_machine(), "options": serializable(options), "rows": compare(options)}
    text = json.dumps(result, indent=1)
    if options.json == "-":
        print(text)
        return
    print(f"{summary(result)}\n\n{table(result['rows'])}")
    if options.json:
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    if options.figure:
        draw(result, options.figure)


def serializable(options):
    return {name: value for name, value in vars(options).items() if name not in ("json", "figure", "worker")}


def compare(options):
    cases = [
        {"path": variant, "size": size, "pool_size": pool}
        for pool in options.pool_sizes
        for size in options.sizes
        for variant in VARIANTS
        if variant != "plain" or 4 * size**4 / pool**2 * 4 * options.batch < options.limit_gib * 2**30
    ]
    results = [[] for _ in cases]
    for _ in range(options.rounds):
        for case, measurements in zip(cases, results):
            measurements.append(measure_in_process(case))
    return [
        case | {key: float(np.median([each[key] for each in measurements])) for key in measurements[0]}
        for case, measurements in zip(cases, results)
    ]


def measure_in_process(case):
    """Measures in a new process, with the options of this one."""
    command = [sys.executable, __file__, *sys.argv[1:], "--worker", json.dumps(case)]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
    process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(process.stdout.splitlines()[-1])


def measure(options, path, size, pool_size):
    import tensorflow as tf

    from sagan_tf.layers import SelfAttention

    if options.threads:
        set_threads(options.threads)
    block = size * size if path == "plain" else None
    layer = SelfAttention(pool_size=pool_size, query_block_size=block, dtype=options.dtype)
    shape, rng = (options.batch, size, size, options.channels), np.random.default_rng(0)
    x, upstream = (tf.constant(rng.standard_normal(shape, np.float32)) for _ in range(2))
    layer.build(shape)
    layer.gamma.assign(1.0)
    weights = [weight.value for weight in layer.trainable_weights]

    @tf.function
    def forward_and_backward():
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(upstream * tf.cast(layer(x, training=True), "float32"))
        return tape.gradient(loss, [x, *weights])

    before, times, clock = resident_mib("VmRSS"), [], CLOCKS[options.clock]
    for _ in range(options.passes + 1):
        start = clock()
        [gradient.numpy() for gradient in forward_and_backward()]
        times.append(clock() - start)
    return {"peak_mib": resident_mib("VmHWM") - before, "milliseconds": 1e3 * float(np.median(times[1:]))}


def summary(result):
    machine, options = result["machine"], result["options"]
    threads = f", {options['threads']} thread(s)" if options["threads"] else ""
    return (
        f"{machine['cpu']}, {machine['cpu_cores']} cores{threads}, {options['clock']} time, "
        f"TensorFlow {machine['tensorflow']}, Keras {machine['keras']}; {options['dtype']}, batch {options['batch']}, "
        f"{options['channels']} channels; medians of {options['rounds']} processes of {options['passes']} passes"
    )


def table(rows):
    heads = ["map", "keys", "scores, MiB", "memory, MiB: whole", "default", "ms: whole", "default"]
    by_case = {(row["pool_size"], row["size"], row["path"]): row for row in rows}
    lines = []
    for pool, size in dict.fromkeys((row["pool_size"], row["size"]) for row in rows):
        keys = (size // pool) ** 2
        cells = [f"{size}x{size}", f"{keys:,}", f"{4 * size**2 * keys / 2**20:,.1f}"]
        for key in ("peak_mib", "milliseconds"):
            variants = (by_case.get((pool, size, variant)) for variant in VARIANTS)
            cells += [f"{row[key]:,.0f}" if row else "-" for row in variants]
        lines.append(cells)
    return markdown_table(heads, lines)


COLORS = {"plain": "#d9541e", "auto": "#1b66b3"}


def draw(result, path):
    pyplot = load_pyplot(**{"axes.grid": True, "grid.alpha": 0.25})
    from matplotlib.lines import Line2D

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    line_styles = {pool: "-" if pool == 1 else "--" for pool in result["options"]["pool_sizes"]}
    for axes, (key, title) in zip(panels, {"peak_mib": "Memory, MiB", "milliseconds": "Time, ms"}.items()):
        for pool, style in line_styles.items():
            for variant, color in COLORS.items():
                rows = [row for row in result["rows"] if (row["pool_size"], row["path"]) == (pool, variant)]
                x, y = [row["size"] ** 2 for row in rows], [row[key] for row in rows]
                axes.plot(x, y, style, marker="o", markersize=4, color=color)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("positions")
        axes.set_title(f"{title}, forward and backward pass", loc="left")
    handles = [Line2D([], [], color=COLORS[name], linewidth=2.5, label=TITLES[name]) for name in VARIANTS]
    for pool, style in line_styles.items():
        label = "no pooling" if pool == 1 else f"keys pooled by {pool}"
        handles.append(Line2D([], [], color="#555555", linestyle=style, label=label))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
