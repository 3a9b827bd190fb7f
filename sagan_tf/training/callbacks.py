"""Callbacks between training steps: progress and report."""

import sys
import time

import keras

from sagan_tf.errors import UserError
from sagan_tf.utils.progress import progress_bar


class StepCallback(keras.callbacks.Callback):
    """Counts steps from the start of the run, not of this process, and calls `at_interval(step)`.

    Args:
        interval: int, steps from one call to the next.

    Attributes:
        first_step: int, from which this process continues.
        last_step: int, the latest step that is done.
    """

    def __init__(self, interval):
        super().__init__()
        self.interval = interval

    def on_train_begin(self, logs=None):
        self.first_step = self.last_step = int(self.model.step.numpy())

    def on_train_batch_end(self, batch, logs=None):
        self.last_step = self.first_step + batch + 1
        if self.last_step % self.interval == 0:
            self.at_interval(self.last_step)

    def at_interval(self, step):
        """Does the work that is due after `step`."""


class Progress(StepCallback):
    """A bar with steps, remaining time, losses and speed; in a log file a line every 30 seconds.

    Args:
        steps: int, of the whole run.
    """

    def __init__(self, steps):
        super().__init__(interval=1)
        self.steps, self.bar = steps, None

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.bar = progress_bar(total=self.steps, initial=self.first_step, unit="step", desc="compiling the step")
        self.shown_at = 0.0

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        # Reading a loss waits for the device.
        if time.monotonic() - self.shown_at > 0.5:
            losses = {name: f"{float(logs[name]):.3f}" for name in ("d_loss", "g_loss")}
            self.bar.set_description("training", refresh=False)
            self.bar.set_postfix(losses, refresh=False)
            self.shown_at = time.monotonic()
        self.bar.update(self.last_step - self.bar.n)

    def on_train_end(self, logs=None):
        self.close()

    def close(self):
        """Ends the bar's line; Keras does not call `on_train_end` when a run ends by an exception."""
        if self.bar is not None:
            self.bar.close()


class Report(StepCallback):
    """Writes the report page at the start, every `interval` steps and at the end.

    A page that cannot be written is reported once, and training continues.

    Args:
        write: Function without arguments.
        interval: int, steps from one page to the next.
    """

    def __init__(self, write, interval):
        super().__init__(interval)
        self.write, self.has_failed = write, False

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.at_interval(self.first_step)

    def on_train_end(self, logs=None):
        self.at_interval(self.last_step)

    def at_interval(self, step):
        try:
            self.write()
        except (OSError, ValueError, UserError) as error:
            if not self.has_failed:
                print(f"The report cannot be written: {error}", file=sys.stderr)
            self.has_failed = True
