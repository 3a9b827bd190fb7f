"""Progress in a log file: a line every 30 seconds."""

import io
import subprocess
import sys

import pytest

from sagan_tf.utils.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("leave", [True, False])
def test_progress_is_a_line_every_30_seconds_when_stderr_is_no_terminal(monkeypatch, leave):
    clock, log = [1000.0], io.StringIO()
    monkeypatch.setattr("tqdm.std.time", lambda: clock[0])
    monkeypatch.setattr("sys.stderr", log)
    with progress_bar(total=100, desc="training", unit="step", leave=leave) as bar:
        for _ in range(100):
            clock[0] += 1.5
            bar.update()
            bar.set_postfix({"loss": bar.n}, refresh=False)
    lines = log.getvalue().splitlines()
    assert 4 <= len(lines) <= 6 and "\r" not in log.getvalue()
    assert all(line.startswith("training: ") and "/100 " in line for line in lines)


def test_progress_says_nothing_of_short_work_when_stderr_is_no_terminal(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    assert list(progress_bar(range(50), desc="reading")) == list(range(50)) and log.getvalue() == ""


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    list(progress_bar(range(3)))
    assert "\r" in terminal.getvalue()


def test_progress_is_imported_without_a_warning_in_a_notebook_without_widgets():
    script = """
import sys, types
shell = types.SimpleNamespace(config={"IPKernelApp": {}})
sys.modules["ipykernel.zmqshell"] = types.ModuleType("zmqshell")
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
sys.modules["ipywidgets"] = None
import sagan_tf.utils.progress"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
