"""Training speed and peak memory of SAGAN against PyTorch: the same networks and batch size on the same machine.

    python benchmarks/training_speed.py --torch_python .venv-torch/bin/python --json speed.json --figure speed.png

Each contender is a process: ours (`peers/ours.py`) in this Python, and the peer, BigGAN-PyTorch's step (`peers/
biggan_pytorch.py`), in that of `--torch_python`; without it only ours are measured. All start first and warm up with
two steps, then run interleaved, round by round, in an order that rotates by one each round, so that load on the machine
affects all alike. Medians over the rounds are printed. On a constantly busy machine, use `--clock processor --threads
1` to measure CPU time: with more threads than free cores, PyTorch's threads wait for each other and no comparison is
possible. `make bench` runs it for 32, 64 and 128 px. Text: docs/performance.md; for GPUs, which have other contenders:
docs/gpu.md.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from reporting import describe_machine, load_pyplot, markdown_table, parse_ints, write_json

from sagan_tf.networks.architectures import (
    DISCRIMINATOR_DOWNSAMPLING,
    DISCRIMINATOR_MULTIPLIERS,
    GENERATOR_MULTIPLIERS,
)
from sagan_tf.runs.environment import hardware_text

PEERS = Path(__file__).resolve().parent / "peers"
SCRIPTS = {"peer": "biggan_pytorch", "ours": "ours", "jax": "ours_jax"}
TITLES = {"peer": "BigGAN-PyTorch", "ours": "sagan_tf", "jax": "sagan_tf on JAX"}
# One of `SCRIPTS`, then options; see the scripts in `peers`.
CONTENDERS = (
    "peer",
    "peer channels_last",
    "peer channels_last bfloat16",
    "ours",
    "ours share_fake_batch",
    "ours precision=mixed_bfloat16",
    "ours precision=mixed_bfloat16 share_fake_batch",
    "ours precision=mixed_bfloat16 native_operations",
    "ours precision=mixed_bfloat16 share_fake_batch native_operations",
)
GPU_CONTENDERS = (
    "peer channels_last",
    "peer channels_last bfloat16",
    "peer channels_last bfloat16 compile",
    "ours",
    "ours jit_compile",
    "ours tf32 jit_compile",
    "ours precision=mixed_bfloat16",
    "ours precision=mixed_bfloat16 jit_compile",
    "ours precision=mixed_bfloat16 share_fake_batch jit_compile",
)
BATCHES = {32: 32, 64: 16, 128: 8}


def main():
    contenders = GPU_CONTENDERS if describe_machine()["gpus"] else CONTENDERS
    run(make_parser(__doc__, contenders).parse_args())


def make_parser(description, contenders, steps=2):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image_sizes", type=parse_ints, default=[32, 64, 128], help="px (default 32,64,128)")
    parser.add_argument("--channels", type=int, default=32, help="base width (default 32)")
    parser.add_argument("--batch", type=int, help="default 32 at 32 px, 16 at 64, 8 at 128")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default 7)")
    parser.add_argument("--steps", type=int, default=steps, help=f"steps per round (default {steps})")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all cores")
    parser.add_argument("--torch_python", help="a Python with PyTorch")
    parser.add_argument("--contenders", type=lambda text: text.split(","), default=list(contenders),
                        help=f"comma-separated (default {','.join(contenders)!r})")  # fmt: skip
    parser.add_argument("--environment", type=parse_variables, default={},
                        help="environment of all contenders, such as TF_ENABLE_ONEDNN_OPTS=0")  # fmt: skip
    parser.add_argument("--json", type=Path, help="file for the measurements")
    parser.add_argument("--figure", type=Path, help="file for the chart")
    return parser


def parse_variables(text):
    return dict(pair.split("=") for pair in text.split(","))


def run(options, networks=(None,)):
    """Runs the benchmark, prints Markdown tables, and writes JSON and chart if requested.

    `networks` names the networks to measure alone, by a forward and backward pass; None is a training step.
    """
    if not options.torch_python:
        options.contenders = [name for name in options.contenders if not name.startswith("peer")]
    result = {"machine": describe_machine(), "options": serializable(options), "sizes": []}
    for size, network in itertools.product(options.image_sizes, networks):
        comparison = compare(size, network, options)
        result["sizes"].append(comparison)
        print(f"{summary(result, comparison)}\n\n{table(comparison['rows'])}\n", flush=True)
        if options.json:
            write_json(options.json, result)
    if options.figure:
        draw(result, options.figure)


def serializable(options):
    return {name: value for name, value in vars(options).items() if name not in ("json", "figure", "torch_python")}


def specification(size, options):
    """Describes networks and batch in plain numbers, readable without our package."""
    return {
        "image_size": size, "channels": options.channels, "num_classes": options.classes, "latent_dim": 128,
        "attention_size": min(32, size // 2), "generator": GENERATOR_MULTIPLIERS[size],
        "discriminator": DISCRIMINATOR_MULTIPLIERS[size], "down": DISCRIMINATOR_DOWNSAMPLING[size],
        "batch": options.batch or BATCHES[size], "threads": options.threads,
    }  # fmt: skip


class Contender:
    """A process that runs steps on request; see `peers/turns.py`."""

    def __init__(self, name, spec, options):
        kind, *arguments = name.split()
        python = options.torch_python if kind == "peer" else sys.executable
        self.name, self.turns = name, []
        environment = {"TF_CPP_MIN_LOG_LEVEL": "2", "OMP_NUM_THREADS": str(spec["threads"]),
                       "TF_FORCE_GPU_ALLOW_GROWTH": "true", **os.environ}  # fmt: skip
        self._process = subprocess.Popen(
            [python, str(PEERS / f"{SCRIPTS[kind]}.py"), json.dumps(spec), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment | options.environment,
        )  # fmt: skip

    def read_answer(self):
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: exit code {self._process.wait()}; see its message above")
        return json.loads(line)

    def take_turn(self, steps):
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        self.turns.append(self.read_answer())

    def end(self):
        self._process.stdin.close()
        memory = self.read_answer()
        self._process.wait()
        return memory


def compare(size, network, options):
    spec = specification(size, options)
    contenders, descriptions = [], []
    for name in options.contenders:  # sequentially, so that no two warm up at once
        contenders.append(Contender(f"{name} backward={network}" if network else name, spec, options))
        descriptions.append(contenders[-1].read_answer())
    parameters = [description.pop("parameters") for description in descriptions]
    if any(counts != parameters[0] for counts in parameters):
        raise SystemExit(f"The networks differ in parameters: {dict(zip(options.contenders, parameters))}")
    gpus = [description["gpu"] for description in descriptions]
    if None in gpus and any(gpus):
        raise SystemExit(f"Some contenders use no GPU: {dict(zip(options.contenders, gpus))}")
    for round_number in range(options.rounds):
        first = round_number % len(contenders)
        for contender in contenders[first:] + contenders[:first]:
            contender.take_turn(options.steps)
    rows = []
    for contender, description in zip(contenders, descriptions):
        images = spec["batch"] * options.steps * description.get("steps_together", 1)
        rates = [images / turn[options.clock] for turn in contender.turns]
        rows.append({"contender": contender.name, "images_per_second": float(np.median(rates)), "rates": rates,
                     **contender.end(), **description})  # fmt: skip
    return {"specification": spec, "network": network, "parameters": parameters[0], "rows": rows}


def summary(result, comparison):
    options, spec, rows = result["options"], comparison["specification"], comparison["rows"]
    machine = result["machine"] | {"gpus": sorted({row["gpu"] for row in rows} - {None})}
    versions = dict(pair for row in rows for pair in row["versions"].items())
    return (
        f"{heading(comparison)}, {spec['channels']} channels, batch {spec['batch']}: "
        f"{' and '.join(f'{count:,}' for count in comparison['parameters'].values())} parameters. "
        f"{hardware_text(machine)}, {options['threads']} thread(s), {options['clock']} time; "
        f"{', '.join(f'{name} {version}' for name, version in versions.items())}; "
        f"medians of {options['rounds']} rounds of {options['steps']} steps"
    )


def heading(comparison):
    size, network = comparison["specification"]["image_size"], comparison["network"]
    return f"{size} px, forward and backward of the {network}" if network else f"{size} px"


def title(name):
    kind, *arguments = name.split()
    texts = {"precision=mixed_bfloat16": "bfloat16", "generator": "eager", "compile": "compiled"}
    if {"compile", "generator"} <= set(arguments):
        arguments.remove("generator")
    arguments = [part for part in arguments if not part.startswith("backward=")]
    arguments = [texts.get(part, part.removeprefix("generator=").replace("_", " ")) for part in arguments]
    return ", ".join([TITLES[kind], *arguments])


def table(rows):
    heads = ["", "images/s", "ratio", "min and max of the rounds", "peak memory, MiB", "without libraries"]
    has_gpu = all("gpu_peak_mib" in row for row in rows)
    heads += ["on the GPU"] * has_gpu
    baseline = next((row for row in rows if row["contender"] == "peer"), rows[0])["images_per_second"]
    cells = [
        [
            title(row["contender"]),
            f"{row['images_per_second']:.2f}",
            f"{row['images_per_second'] / baseline:.2f}",
            f"{min(row['rates']):.2f}, {max(row['rates']):.2f}",
            f"{row['peak_mib']:,.0f}",
            f"{row['peak_without_libraries_mib']:,.0f}",
            *([f"{row['gpu_peak_mib']:,.0f}"] if has_gpu else []),
        ]
        for row in rows
    ]
    return markdown_table(heads, cells)


def draw(result, path):
    pyplot = load_pyplot()
    sizes = result["sizes"]
    names = [title(row["contender"]) for row in sizes[0]["rows"]]
    figure_size = (2 + 3.4 * len(sizes), 1.6 + 0.7 * len(names))
    figure, grid = pyplot.subplots(2, len(sizes), figsize=figure_size, sharey=True, squeeze=False, layout="constrained")
    for column, comparison in enumerate(sizes):
        rows = comparison["rows"]
        colors = ["#d9541e" if row["contender"].startswith("peer") else "#1b66b3" for row in rows]
        panels = {"images_per_second": f"{heading(comparison)}: images/s", "peak_mib": "peak memory, MiB"}
        for axes, (key, text) in zip(grid[:, column], panels.items()):
            bars = axes.barh(names, [row[key] for row in rows], color=colors)
            axes.bar_label(bars, fmt="{:,.3g}" if key != "peak_mib" else "{:,.0f}", padding=3, fontsize=9)
            axes.margins(x=0.18)
            axes.set_title(text, loc="left")
    grid[0, 0].invert_yaxis()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
