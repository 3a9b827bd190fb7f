"""Random damage for files and JSON values, and the number of examples that tests try."""

import contextlib
import copy
import json
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from sagan_tf.errors import UserError
from sagan_tf.files.untrusted import FLOOR_BYTES

# `make stress` tries many times as many examples as the default tests do.
FACTOR = int(os.environ.get("SAGAN_TF_FUZZ", "1"))


def tries(count):
    """Hypothesis settings for `count` examples, FACTOR times as many in a stress test."""
    return settings(
        max_examples=FACTOR * count,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@st.composite
def damage(draw):
    """A function of bytes that flips, cuts, drops, repeats or overwrites some."""
    kind = draw(st.sampled_from(["flip", "cut", "drop", "repeat", "overwrite", "replace"]))
    position, length = draw(st.floats(0, 1)), draw(st.integers(1, 64))
    noise = draw(st.binary(min_size=1, max_size=64))

    def apply(content):
        at = int(position * (len(content) - 1))
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
    """Yields the path of every value inside a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def replaced(value, path, new):
    """Returns a copy of a JSON value with another value at a path."""
    if not path:
        return new
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return value


def rewrite_member(source, target, member, change):
    """Copies a ZIP file with the bytes of one member changed; the checksums are right."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content) if name == member else content)


def rewrite_config(source, target, change):
    """Copies a `.keras` file with its config, a JSON value, changed."""
    rewrite_member(source, target, "config.json", lambda content: json.dumps(change(json.loads(content))).encode())


@contextlib.contextmanager
def one_line_or_none():
    """Suppresses a `UserError` of one line; other errors propagate."""
    try:
        yield
    except UserError as error:
        assert str(error).strip() and "\n" not in str(error)


def peak_growth(function):
    """Calls a function; returns the growth of the process memory at its peak, in bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    except OSError:
        pytest.skip("peak memory is measured on Linux only")
    before = _memory("VmRSS")
    function()
    return _memory("VmHWM") - before


def assert_refused_in_little_memory(function, match, limit=FLOOR_BYTES):
    """Asserts that a function raises a `UserError`, and how many bytes the process memory grows by at most."""

    def call():
        with pytest.raises(UserError, match=match):
            function()

    assert peak_growth(call) < limit


def _memory(name):
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return 1024 * int(line.split()[1])
