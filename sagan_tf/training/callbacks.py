"""Callbacks between training steps: progress, report and signals."""

import signal
import sys
import time

import keras
import tensorflow as tf
from tqdm.auto import tqdm

from sagan_tf.errors import Terminated, UserError


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
    """A bar with steps, remaining time, losses and speed.

    Args:
        steps: int, of the whole run.
    """

    def __init__(self, steps):
        super().__init__(interval=1)
        self.steps, self.bar = steps, None

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.bar = tqdm(total=self.steps, initial=self.first_step, unit="step", desc="compiling the step")
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


class StopOnSignal(keras.callbacks.Callback):
    """Ctrl-C or SIGTERM ends the run after the current step, saved; a second one ends it at once.

    On several workers all end after the same step, whichever of them received the signal. `received` is then the name
    of the signal, or None. `close` restores the signal handlers; `on_train_end` does not, because other callbacks still
    draw and save then.
    """

    def __init__(self):
        super().__init__()
        self._signal, self._handlers = None, {}

    @property
    def received(self):
        if self._signal is None and self._workers_agreed():
            return "another worker"
        return self._signal

    def on_train_begin(self, logs=None):
        self._handlers = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_train_batch_end(self, batch, logs=None):
        if self._workers_agreed():
            self.model.stop_training = True

    def close(self):
        """Restores the signal handlers."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _workers_agreed(self):
        return self.model.stop_agreed is not None and float(self.model.stop_agreed) > 0

    def _stop(self, number, frame):
        if self._signal is not None:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        self._signal = signal.Signals(number).name
        self.model.stop_wanted = True
        if not isinstance(self.model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            self.model.stop_training = True
