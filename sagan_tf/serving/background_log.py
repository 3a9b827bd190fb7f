"""A log that never blocks or fails: its output may be closed, or a pipe that nobody reads."""

import contextlib
import queue
import threading


class BackgroundLog:
    """Calls `log` with each line in a thread; drops lines while too many wait.

    Args:
        log: Function of a line.
        max_lines: int, number of lines that may wait.
    """

    def __init__(self, log, max_lines=1000):
        self._log, self._lines = log, queue.Queue(max_lines)
        threading.Thread(target=self._write, daemon=True).start()

    def __call__(self, line):
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(line)

    def flush(self, timeout=1.0):
        """Waits until all lines are written, at most `timeout` seconds."""
        written = threading.Event()
        self(written)
        written.wait(timeout)

    def _write(self):
        while True:
            line = self._lines.get()
            if isinstance(line, threading.Event):
                line.set()
                continue
            with contextlib.suppress(OSError, ValueError):  # closed
                self._log(line)
