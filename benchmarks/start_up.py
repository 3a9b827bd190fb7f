"""Start-up times, each in a new process: imports, the first sample, the first training step.

    python benchmarks/start_up.py --rounds 5 --json start_up.json --figure start_up.png

Runs the commands interleaved and prints medians as Markdown. The import of TensorFlow and Keras has its own row. The
sample is drawn from a one-step run made beforehand. Times are wall time from the start of the process. Text:
docs/performance.md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sagan_tf.runs.environment import describe_environment

FIRST_STEP = """
import os, sys, time
import keras
from sagan_tf.config import load_config
from sagan_tf.experiment.train import train

class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        float(logs["d_loss"])
        os._exit(0)

train(load_config(sys.argv[1:]), [Stop()])
os._exit(1)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="processes per row (default 5)")
    parser.add_argument("--json", type=Path, help="file for the measurements")
    parser.add_argument("--figure", type=Path, help="file for the chart")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        commands = make_commands(Path(folder))
        times = {name: [] for name in commands}
        for turn in range(options.rounds + 1):
            for name, command in commands.items():
                seconds = seconds_of([part.format(turn=turn) for part in command])
                if turn:  # the first round fills the disk cache
                    times[name].append(seconds)
    machine = {k: v for k, v in describe_environment().items() if k not in ("command", "started_at")}
    result = {"machine": machine, "rounds": options.rounds, "seconds": times}
    print(table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.figure:
        draw(result, options.figure)


def make_commands(folder):
    """name -> command line; `{turn}` is the number of the round."""
    python = sys.executable
    run = folder / "run"
    subprocess.run([python, "-m", "sagan_tf.train", "--run", str(run), "--training.steps", "1"],
                   check=True, capture_output=True)  # fmt: skip
    sample = [python, "-m", "sagan_tf.sample", str(run), "--out", str(folder / "sample_{turn}")]
    return {
        "python": [python, "-c", "pass"],
        "import keras and tensorflow": [python, "-c", "import tensorflow, keras"],
        "import sagan_tf with all its layers": [python, "-c", "import tensorflow, keras, sagan_tf.layers"],
        "train --help": [python, "-m", "sagan_tf.train", "--help"],
        "train with an invalid option": [python, "-m", "sagan_tf.train", "--generator.channels", "x"],
        "sample of a run folder": sample,
        "first training step of the quick start": [python, "-c", FIRST_STEP, "--run", str(folder / "first_{turn}")],
    }


def seconds_of(command):
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode not in (0, 2 if "x" in command else 0):
        raise SystemExit(f"{' '.join(command)[:200]}: ended with code {done.returncode}: {done.stderr[-500:]}")
    return seconds


def table(result):
    machine = result["machine"]
    lines = [
        f"{machine['cpu']}, {machine['cpu_cores']} cores, Python {machine['python']}, TensorFlow "
        f"{machine['tensorflow']}, Keras {machine['keras']}; medians of {result['rounds']} processes\n",
        "| | s | min, max |", "|---|---|---|",
    ]  # fmt: skip
    for name, times in result["seconds"].items():
        lines.append(f"| {name} | {np.median(times):.2f} | {min(times):.2f}, {max(times):.2f} |")
    return "\n".join(lines)


def draw(result, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(result["seconds"])
    figure, axes = pyplot.subplots(figsize=(8, 0.6 + 0.45 * len(names)), layout="constrained")
    bars = axes.barh(names, [np.median(result["seconds"][name]) for name in names], color="#1b66b3")
    axes.bar_label(bars, fmt="{:.1f}", padding=3)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("seconds from the start of the process")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
