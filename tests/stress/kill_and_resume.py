"""Kills a training process repeatedly, resumes it, and compares the result with a run that was never killed.

    python tests/stress/kill_and_resume.py --kills 50
    python tests/stress/kill_and_resume.py --kills 20 --hardware.distribution mirrored --hardware.replicas 2
    python tests/stress/kill_and_resume.py --kills 10 --workers 2      # one of them at a time; the others must end
    python tests/stress/kill_and_resume.py --kills 20 --data.name cifar10 --data.data_dir DIR --data.memory_limit_gib 0

The last one reads TFRecords during training. Not part of the test suite, because it takes a quarter of an hour. Every
process is killed by SIGKILL at a random moment: four in five after training began, with a checkpoint at every step, so
that many moments fall into a save; the others at any moment since the start. Unknown options are passed to
`python -m sagan_tf.train`. Prints a SHA-256 of the last checkpoint of both runs. Exits with code 1 and the names of
what differs, if anything does; with `--keep DIR` both runs are kept, and a second start resumes them.

Seconds do not count while the machine is suspended.
"""

import argparse
import collections
import contextlib
import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import sagan_tf  # noqa: F401  registers the layers
from sagan_tf.runs.folder import Run

PROCESS_SECONDS = 1800  # limit of one process
LOST_SECONDS = 30  # within which workers must detect that another has ended
START_SECONDS = 15  # limit of waiting for a worker killed before its first step; then the waiting worker is killed too


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--keep", metavar="DIR", help="folder for the runs (default: one that is removed)")
    options, more = parser.parse_known_args()
    rng = random.Random(options.seed)
    with contextlib.nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory() as folder:
        whole, broken = Run(Path(folder) / "whole"), Run(Path(folder) / "broken")
        run_to_end(command(whole, options.steps, more), options.workers)
        states = collections.Counter(kill_once(broken, options, more, rng, i) for i in range(options.kills))
        run_to_end(command(broken, options.steps, more), options.workers)
        different = compare(whole, broken)
        for run in (whole, broken):
            print(f"{run.path.name}: {digest(run)}")
    print(f"{options.kills} kills: " + ", ".join(f"{count} {name}" for name, count in states.items()))
    print(f"different: {different}" if different else "bit-identical: checkpoint, generator, metrics, samples")
    sys.exit(bool(different))


def command(run, steps, more):
    return [
        sys.executable, "-m", "sagan_tf.train", "--run", str(run.path), "--generator.channels", "8",
        "--discriminator.channels", "8", "--training.batch_size", "4", "--training.steps", str(steps),
        "--output.log_interval", "1", "--output.checkpoint_interval", "1", "--output.sample_interval", "50", *more,
    ]  # fmt: skip


class Process(subprocess.Popen):
    """A process whose stderr goes to a file, because nobody reads a pipe while waiting for the process."""

    def __init__(self, arguments, **options):
        self.messages = tempfile.TemporaryFile()
        super().__init__(arguments, stdout=subprocess.DEVNULL, stderr=self.messages, **options)

    def stderr_text(self):
        self.messages.seek(0)
        return self.messages.read().decode(errors="replace")[-2000:]


def start(arguments, workers):
    """Starts a run as one process or several; list of `Process`."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(workers)]
        for bound in sockets:
            bound.bind(("127.0.0.1", 0))
        cluster = {"worker": [f"127.0.0.1:{bound.getsockname()[1]}" for bound in sockets]}
    configs = [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}}) for i in range(workers)]
    return [Process(arguments, env={**os.environ, "TF_CONFIG": config}) for config in configs]


def run_to_end(arguments, workers):
    for process in start(arguments, workers):
        if process.wait(PROCESS_SECONDS):
            sys.exit(f"the run failed: {process.stderr_text()}")


def wait_until(condition, seconds):
    """Waits, and returns the seconds that passed, without those of a suspended machine."""
    awake, before = 0.0, time.monotonic()
    while not condition() and awake < seconds:
        time.sleep(0.01)
        now = time.monotonic()
        awake, before = awake + min(now - before, 0.5), now
    return awake


def kill_once(run, options, more, rng, number):
    """Starts a run, kills it, and returns what the process was doing."""
    before = last_step(run)
    processes = start(command(run, options.steps, more), options.workers)
    process = rng.choice(processes)
    if rng.random() < 0.8:
        wait_until(lambda: last_step(run) > before or process.poll() is not None, PROCESS_SECONDS)
        wait_until(lambda: False, rng.uniform(0, 1.5))
    else:
        wait_until(lambda: False, rng.uniform(0, 15))
    ended = process.poll()
    process.kill()
    process.wait()
    trained, saving = last_step(run) > before, is_saving(run)
    lost_without_a_kill = ended == 2 and len(processes) > 1 and "another worker has stopped" in process.stderr_text()
    if ended not in (None, 0) and not lost_without_a_kill:
        sys.exit(f"process {number + 1} ended with {ended}: {process.stderr_text()}")
    state = "after its end" if ended == 0 else "while it saved" if saving else "while it trained"
    state = state if trained or ended == 0 else "before its first step"
    state = "never, workers lost one another by themselves" if lost_without_a_kill else state
    print(f"kill {number + 1}: {state}, step {last_step(run)}", flush=True)
    others = [other for other in processes if other is not process]
    if others:
        lost = "chief" if process is processes[0] else "worker"
        seconds = max(end_after_loss(other, trained) for other in others)
        print(f"    the {lost} was killed; all had ended {seconds:.1f} s later: {last_error(others)}", flush=True)
        state = f"{state} ({lost})"
    return state


def end_after_loss(process, trained):
    """Waits until a worker that lost another has ended, and returns the seconds.

    Before the first step it may still wait for the lost worker, as for one that starts late.
    """
    seconds = wait_until(lambda: process.poll() is not None, LOST_SECONDS if trained else START_SECONDS)
    if process.poll() is None:
        process.kill()
        process.wait()
        if trained:
            sys.exit(f"a worker continued for {LOST_SECONDS} s without another: {process.stderr_text()}")
    if process.returncode not in (0, 2, -9):
        sys.exit(f"a worker that had lost another ended with {process.returncode}: {process.stderr_text()}")
    return seconds


def last_error(processes):
    lines = [line for process in processes for line in process.stderr_text().splitlines() if line.startswith("error: ")]
    return lines[-1][:100] if lines else "no error line"


def last_step(run):
    lines = run.read_metrics() if run.metrics_path.exists() else []
    return lines[-1]["step"] if lines else 0


def is_saving(run):
    if list(run.path.rglob("*partial*")) or list(run.path.rglob("*temp*")):
        return True
    return last_step(run) > max((int(path.rpartition("-")[2]) for path in run.checkpoints()), default=0)


def arrays(run):
    """Arrays of the newest checkpoint by name: weights, slots, averages, u, step."""
    reader = tf.train.load_checkpoint(run.checkpoints()[0])
    # Without TensorFlow's own count of saves and its description of the objects.
    names = [n for n in reader.get_variable_to_shape_map() if "save_counter" not in n and "CHECKPOINTABLE" not in n]
    return {name: reader.get_tensor(name) for name in sorted(names)}


def digest(run):
    sha256 = hashlib.sha256()
    for name, value in arrays(run).items():
        sha256.update(name.encode() + value.tobytes())
    return sha256.hexdigest()


def compare(whole, broken):
    """Names of at most ten differences."""
    one, two = arrays(whole), arrays(broken)
    assert len(one) > 300
    different = sorted(one.keys() ^ two.keys())
    different += [name for name in one.keys() & two.keys() if not np.array_equal(one[name], two[name])]
    generators = [keras.models.load_model(run.generator_path).get_weights() for run in (whole, broken)]
    if not all(np.array_equal(a, b) for a, b in zip(*generators, strict=True)):
        different.append("generator.keras")
    lines = [[{k: v for k, v in x.items() if "second" not in k} for x in run.read_metrics()] for run in (whole, broken)]
    if lines[0] != lines[1]:
        different.append("metrics.jsonl")
    for path in whole.samples_path.iterdir():
        if path.read_bytes() != (broken.samples_path / path.name).read_bytes():
            different.append(path.name)
    return different[:10]


if __name__ == "__main__":
    main()
