"""Random damage for files and JSON values, and how much of it a test tries."""

import contextlib
import copy
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from sagan_tf.errors import UserError

# `make stress` tries many times as many examples as the default tests do.
FACTOR = int(os.environ.get("SAGAN_TF_FUZZ", "1"))


def tries(count):
    """Settings of a test that is to try so many examples, and FACTOR times as many in a stress test."""
    return settings(
        deadline=None, max_examples=FACTOR * count, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )


@st.composite
def damage(draw):
    """A function of bytes that flips, cuts, drops, repeats or overwrites some."""
    kind = draw(st.sampled_from(["flip", "cut", "drop", "repeat", "overwrite", "replace"]))
    where, length = draw(st.floats(0, 1)), draw(st.integers(1, 64))
    noise = draw(st.binary(min_size=1, max_size=64))

    def apply(content):
        at = int(where * (len(content) - 1))
        before, piece, after = content[:at], content[at : at + length], content[at + length :]
        return {
            "flip": before + bytes(byte ^ 255 for byte in piece) + after,
            "cut": before,
            "drop": before + after,
            "repeat": before + piece + piece + after,
            "overwrite": before + noise + content[at + len(noise) :],
            "replace": noise,
        }[kind]

    return apply


def places(value, path=()):
    """Every place in a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def replaced(value, path, new):
    """A JSON value with another one at a place."""
    if not path:
        return new
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return value


@contextlib.contextmanager
def one_line_or_none():
    """Lets a `UserError` of one line pass, and nothing else."""
    try:
        yield
    except UserError as error:
        assert str(error).strip() and "\n" not in str(error)


def peak_growth(function):
    """Calls a function, and gives by how many bytes the memory of the process grew at its highest."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    except OSError:
        pytest.skip("the peak of a process is measured as Linux does")
    before = _memory("VmRSS")
    function()
    return _memory("VmHWM") - before


def _memory(name):
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return 1024 * int(line.split()[1])
