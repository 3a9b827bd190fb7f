"""Imports that hide TensorFlow's log lines and that Ctrl-C ends at once."""

import contextlib
import os
import re
import signal
import sys
import tempfile
import threading

from sagan_tf.errors import STOPPED_CODES, stop_line

# Lines that C++ libraries log below the level "fatal", before a level can be set or despite it.
_LOG_LINE = re.compile(
    r"WARNING: All log messages before absl::InitializeLog|[IWE]\d{4} \d\d:|\d{4}-\d\d-\d\d \d\d:[\d:.]+: [IWE] |"
    r"To enable the following instructions:|INFO: Created TensorFlow Lite"
)


@contextlib.contextmanager
def quiet_imports(after_stop=""):
    """Drops log lines that are written to stderr inside the block. Ctrl-C or SIGTERM ends the process with one line.

    TensorFlow's Python code logs only errors from then on. With TF_CPP_MIN_LOG_LEVEL 0 or 1 nothing is dropped, and
    signals are not handled.

    Args:
        after_stop: str, printed after "stopped by ...", see `one_line_errors`.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") in ("0", "1"):
        yield
        return
    with without_log_lines() as stderr, _exit_on_signal(stderr, after_stop):
        yield
    if "tensorflow" in sys.modules:
        sys.modules["tensorflow"].get_logger().setLevel("ERROR")  # warnings name functions that we call, not the user


@contextlib.contextmanager
def without_log_lines():
    """Holds back what the process writes to stderr, and at the end writes the lines of it that are not log lines.

    Yields:
        int, file descriptor of the stderr.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as held:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield stderr
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            sys.stderr.writelines(line for line in held if not _LOG_LINE.match(line))


@contextlib.contextmanager
def _exit_on_signal(stderr, after_stop):
    """Ends the process within signal handlers: libraries turn an exception during their import into others."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number, frame):
        name = signal.Signals(number).name
        os.write(stderr, f"{stop_line(name, after_stop)}\n".encode())
        os._exit(STOPPED_CODES[name])

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
