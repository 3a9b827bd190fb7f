"""Start-up times, each in a new process: imports, the first sample, the first training step.

    python benchmarks/start_up.py --rounds 5 --json start_up.json

Runs the commands interleaved and prints medians as Markdown. The import of TensorFlow and Keras has its own row. The
sample is drawn from a one-step run made beforehand. Times are wall time from the start of the process. Text:
docs/performance.md.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from reporting import describe_machine, markdown_table, write_json

FIRST_STEP = """
import os, sys
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
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        commands = make_commands(Path(folder))
        times = {name: [] for name in commands}
        for round_number in range(options.rounds + 1):
            for name, command in commands.items():
                seconds = run_seconds([part.format(round=round_number) for part in command])
                if round_number:  # the first round fills the disk cache
                    times[name].append(seconds)
    result = {"machine": describe_machine(), "rounds": options.rounds, "seconds": times}
    print(summary(result) + "\n\n" + table(times))
    if options.json:
        write_json(options.json, result)


def make_commands(folder):
    """name -> command line; `{round}` is the number of the round."""
    python = sys.executable
    run = folder / "run"
    subprocess.run([python, "-m", "sagan_tf.train", "--run", str(run), "--training.steps", "1"],
                   check=True, capture_output=True)  # fmt: skip
    sample = [python, "-m", "sagan_tf.sample", str(run), "--out", str(folder / "sample_{round}")]
    return {
        "python": [python, "-c", "pass"],
        "import sagan_tf": [python, "-c", "import sagan_tf"],
        "train --help": [python, "-m", "sagan_tf.train", "--help"],
        "train with an invalid option": [python, "-m", "sagan_tf.train", "--generator.channels", "x"],
        "import keras and tensorflow": [python, "-c", "import tensorflow, keras"],
        "import sagan_tf with all its layers": [python, "-c", "import tensorflow, keras, sagan_tf.layers"],
        "sample of a run folder": sample,
        "first training step of the quick start": [python, "-c", FIRST_STEP, "--run", str(folder / "first_{round}")],
    }


def run_seconds(command):
    start = time.perf_counter()
    process = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if process.returncode not in (0, 2 if "x" in command else 0):
        raise SystemExit(f"{' '.join(command)[:200]}: exit code {process.returncode}: {process.stderr[-500:]}")
    return seconds


def summary(result):
    machine = result["machine"]
    return (
        f"{machine['cpu']}, {machine['cpu_cores']} cores, Python {machine['python']}, TensorFlow "
        f"{machine['tensorflow']}, Keras {machine['keras']}; medians of {result['rounds']} processes"
    )


def table(times):
    rows = [[name, f"{np.median(each):.2f}", f"{min(each):.2f}, {max(each):.2f}"] for name, each in times.items()]
    return markdown_table(["", "s", "min, max"], rows)


if __name__ == "__main__":
    main()
