"""Trains a small run for many steps and checks that memory, open files, traced graphs and threads do not grow.

    python tests/stress/long_run.py --steps 20000

Not part of the test suite, because it takes a quarter of an hour. Prints a table; exits with code 1 if memory grows by
more than 1 % from the first fifth of the run to its end, or anything else grows at all.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import keras
import psutil

from sagan_tf.config import load_config
from sagan_tf.experiment.train import train


class Watch(keras.callbacks.Callback):
    """Measures the process every `interval` steps."""

    def __init__(self, interval):
        super().__init__()
        self.interval, self.rows, self.process = interval, [], psutil.Process()

    def on_train_batch_end(self, batch, logs=None):
        step = int(self.model.step.numpy())
        if step % self.interval == 0:
            traces = self.model.traced_function.experimental_get_tracing_count()
            memory = self.process.memory_info().rss / 2**20
            self.rows.append((step, memory, self.process.num_fds(), self.process.num_threads(), traces))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=20_000)
    options = parser.parse_args()
    interval = options.steps // 20
    watch = Watch(interval)
    with tempfile.TemporaryDirectory() as folder:
        train(load_config([
            "--run", str(Path(folder) / "run"), "--generator.channels", "8", "--discriminator.channels", "8",
            "--training.batch_size", "4", "--training.steps", str(options.steps), "--output.log_interval", "100",
            "--output.checkpoint_interval", "1000", "--output.sample_interval", "1000",
        ]), [watch])  # fmt: skip
    print("| step | memory, MiB | open files | threads | graphs traced |\n|---|---|---|---|---|")
    for row in watch.rows:
        print("| {} | {:.0f} | {} | {} | {} |".format(*row))
    # The first fifth fills the caches of the data and of TensorFlow's allocator, and the checkpoints kept.
    early, last = watch.rows[len(watch.rows) // 5], watch.rows[-1]
    grown = last[1] > 1.01 * early[1] or any(b > a for a, b in zip(early[2:], last[2:]))
    print("grown" if grown else "nothing has grown")
    sys.exit(grown)


if __name__ == "__main__":
    main()
