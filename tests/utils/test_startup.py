"""A command's imports: log lines are dropped, errors are not, Ctrl-C ends the process in one line."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from sagan_tf.utils.startup import quiet_imports

ROOT = Path(__file__).resolve().parents[2]
LOG_LINES = (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    b"I0000 00:00:1795861642.784326   19309 port.cc:153] oneDNN custom operations are on.\n"
    b"E0000 00:00:1795862974.549134   29300 cuda_platform.cc:52] failed call to cuInit\n"
    b"2026-11-28 10:00:00.123456: W tensorflow/core/x.cc:1] something\n"
    b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"
    b"To enable the following instructions: AVX2, in other operations, rebuild TensorFlow.\n"
)


def run_python(*arguments):
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(("level", "expected"), [("2", b""), ("0", LOG_LINES)])
def test_quiet_imports_drop_log_lines_only(capfdbinary, monkeypatch, level, expected):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
    with pytest.raises(ImportError), quiet_imports():
        os.write(2, LOG_LINES + b"a warning of Python\nF0000 00:00:1.1 1 x.cc:1] a fatal error\n")
        raise ImportError
    err = capfdbinary.readouterr().err
    assert err == expected + b"a warning of Python\nF0000 00:00:1.1 1 x.cc:1] a fatal error\n"


def test_tensorflow_logs_only_errors_after_quiet_imports(monkeypatch):
    """A resumed run printed four lines about a deprecated function that we call."""
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    logger = tf.get_logger()
    before = logger.level
    try:
        logger.setLevel("WARNING")
        with quiet_imports():
            pass
        assert [logger.isEnabledFor(level) for level in (logging.WARNING, logging.ERROR)] == [False, True]
    finally:
        logger.setLevel(before)


@pytest.mark.parametrize(("name", "code", "by"), [("SIGINT", 130, "the keyboard"), ("SIGTERM", 143, "SIGTERM")])
def test_signal_during_imports_ends_process_in_one_line(name, code, by):
    """Even where a library turns the exception of the signal into another, as pybind11 does."""
    script = f"""
import signal
from sagan_tf.errors import one_line_errors
from sagan_tf.utils.startup import quiet_imports
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
with one_line_errors(), quiet_imports("Run it again."):
    try:
        signal.raise_signal(signal.{name})
    except BaseException as error:
        raise ImportError from error
"""
    done = run_python("-c", script)
    assert (done.returncode, done.stderr) == (code, f"\nstopped by {by}. Run it again.\n")


@pytest.mark.slow
def test_command_prints_no_start_up_line(tmp_path):
    done = run_python("-m", "sagan_tf.sample", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {tmp_path}: not a run folder; config.yaml is missing.\n"
