"""A log that never blocks or fails: its output may be closed, or a pipe that nobody reads."""

import contextlib
import queue
import threading

_MAX_LINES, _FLUSH_SECONDS = 1000, 1.0


class BackgroundLog:
    """Calls `log`, a function of a line, with each line in a thread; drops lines while too many wait."""

    def __init__(self, log):
        self._log, self._lines = log, queue.Queue(_MAX_LINES)
        threading.Thread(target=self._write, daemon=True).start()

    def __call__(self, line):
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(line)

    def flush(self):
        """Waits until all lines are written, for a second at most."""
        written = threading.Event()
        self(written)
        written.wait(_FLUSH_SECONDS)

    def _write(self):
        while True:
            line = self._lines.get()
            if isinstance(line, threading.Event):
                line.set()
                continue
            with contextlib.suppress(OSError, ValueError):  # closed
                self._log(line)
