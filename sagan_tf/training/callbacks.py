"""Callbacks between training steps: progress, report and signals."""

import signal
import socket
import sys
import threading
import time

import keras
import tensorflow as tf

from sagan_tf.errors import Terminated, UserError
from sagan_tf.progress import progress_bar


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


class StopOnSignal(keras.callbacks.Callback):
    """Ctrl-C or SIGTERM ends the run after the current step, saved; a second one ends it at once.

    A line says so within the step. On several workers all end after the same step, whichever of them received the
    signal. `received` is then the name of the signal, or None. `close` restores the signal handlers; `on_train_end`
    does not, because other callbacks still draw and save then.
    """

    def __init__(self):
        super().__init__()
        self._signal, self._handlers, self._answers = None, {}, None

    @property
    def received(self):
        if self._signal is None and self._workers_agreed():
            return "another worker"
        return self._signal

    def on_train_begin(self, logs=None):
        self._first_step = self._last_step = int(self.model.step.numpy())
        self._handlers = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        self._answers = SignalAnswers(self._handlers, self._answer)

    def on_train_batch_begin(self, batch, logs=None):
        self._last_step = self._first_step + batch + self.model.steps_per_execution

    def on_train_batch_end(self, batch, logs=None):
        self._last_step = self._first_step + batch + 1
        if self._workers_agreed():
            self.model.stop_training = True

    def close(self):
        """Restores the signal handlers."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._answers is not None:
            self._answers.close()

    def _answer(self):
        return f"\nsaving at step {self._last_step}, press again to leave without saving"

    def _workers_agreed(self):
        return self.model.stop_agreed is not None and float(self.model.stop_agreed) > 0

    def _stop(self, number, frame):
        if self._signal is not None:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        self._signal = signal.Signals(number).name
        self.model.stop_wanted = True
        if not isinstance(self.model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            self.model.stop_training = True


class SignalAnswers:
    """Prints a line at the first of some signals at once, from a thread: Python's handlers wait for the step to end.

    Args:
        signals: Numbers of signals that have Python handlers.
        line: Function without arguments; the line to print.
    """

    def __init__(self, signals, line):
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._signals, self._line = frozenset(signals), line
        self._previous = signal.set_wakeup_fd(self._writer.fileno())
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self):
        while numbers := self._reader.recv(1):
            if numbers[0] in self._signals:
                print(self._line(), file=sys.stderr, flush=True)
                return

    def close(self):
        """Ends the thread."""
        signal.set_wakeup_fd(self._previous)
        self._writer.close()
        self._thread.join()
        self._reader.close()
