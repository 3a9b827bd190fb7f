"""Ctrl-C and SIGTERM during training: a step, or a wait for another worker, is a call that Python cannot interrupt."""

import contextlib
import os
import signal
import socket
import sys
import threading

import keras
import tensorflow as tf

from sagan_tf.errors import STOPPED_CODES, Terminated, stop_line

_SECONDS_TO_END = 2  # that Python's handlers have, before the process is ended


class SignalThread:
    """Calls `handle(number)` at every signal at once, from a thread: Python's handlers wait for the step to end."""

    def __init__(self, handle):
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._handle, self._previous = handle, signal.set_wakeup_fd(self._writer.fileno())
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self):
        while numbers := self._reader.recv(1):
            self._handle(numbers[0])

    def close(self):
        """Ends the thread."""
        signal.set_wakeup_fd(self._previous)
        self._writer.close()
        self._thread.join()
        self._reader.close()


class StopOnSignal(keras.callbacks.Callback):
    """Ctrl-C or SIGTERM ends the run after the current step, saved; a second one ends it at once.

    A line says so within the step. On several workers all end after the same step, whichever of them received the
    signal. `received` is then the name of the signal, or None. `close` restores the signal handlers; `on_train_end`
    does not, because other callbacks still draw and save then.
    """

    def __init__(self):
        super().__init__()
        self._signal, self._handlers, self._thread, self._is_announced = None, {}, None, False

    @property
    def received(self):
        if self._signal is None and self._workers_agreed():
            return "another worker"
        return self._signal

    def on_train_begin(self, logs=None):
        self._first_step = self._last_step = int(self.model.step.numpy())
        if threading.current_thread() is not threading.main_thread():  # which alone may have handlers
            return
        self._handlers = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        self._thread = SignalThread(self._announce)

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
        if self._thread is not None:
            self._thread.close()

    def _announce(self, number):
        if number in self._handlers and not self._is_announced:
            self._is_announced = True
            text = f"\nsaving at step {self._last_step}, press again to leave without saving"
            print(text, file=sys.stderr, flush=True)

    def _workers_agreed(self):
        return self.model.stop_agreed is not None and float(self.model.stop_agreed) > 0

    def _stop(self, number, frame):
        if self._signal is not None:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        self._signal = signal.Signals(number).name
        self.model.stop_wanted = True
        if not isinstance(self.model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            self.model.stop_training = True


@contextlib.contextmanager
def end_on_signal(worker):
    """Lets Ctrl-C and SIGTERM end a process that waits for another worker within TensorFlow.

    Python's handlers run only between two of its instructions. Where they have not ended the block after
    `_SECONDS_TO_END`, a thread ends the process.
    """
    if worker.count == 1 or threading.current_thread() is not threading.main_thread():
        yield
        return
    has_ended = threading.Event()

    def end(number):
        name = signal.Signals(number).name
        if name in STOPPED_CODES and not has_ended.wait(_SECONDS_TO_END):
            os.write(2, f"{stop_line(name, '')}\n".encode())
            os._exit(STOPPED_CODES[name])

    thread = SignalThread(end)
    try:
        yield
    finally:
        has_ended.set()
        thread.close()


@contextlib.contextmanager
def kept_signal_handlers():
    """Restores the handlers of Ctrl-C and SIGTERM, which TensorFlow's strategy of several workers replaces."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
