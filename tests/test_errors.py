"""Errors and sizes as users read them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sagan_tf.errors import UserError, format_size, renamed_options

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(2**30, "1.0 GiB"), (5 * 2**29, "2.5 GiB"), (3 * 2**19, "1.5 MiB"), (0, "0.0 KiB")]
)
def test_format_size_chooses_its_unit(num_bytes, text):
    assert format_size(num_bytes) == text


def test_error_line_keeps_the_names_of_files():
    assert str(UserError("two  spaces.png:\n  damaged.\n")) == "two  spaces.png: damaged."


def test_renamed_options_changes_the_message_alone():
    with pytest.raises(UserError, match=r"^SOURCE: `x`; set --data_dir\.$"):
        with renamed_options({"data.name:": "SOURCE:", "data.data_dir": "--data_dir"}):
            raise UserError("data.name: `x`; set data.data_dir.")


def test_command_that_is_killed_has_printed_its_lines():
    """Into a pipe or a log file, too."""
    lines = [
        "import os, signal", "from sagan_tf.errors import one_line_errors", "with one_line_errors():",
        "    print('Warning: collapse')", "    os.kill(os.getpid(), signal.SIGKILL)",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == -9 and done.stdout == "Warning: collapse\n"
