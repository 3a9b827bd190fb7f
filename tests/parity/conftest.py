"""Comparisons that assert, and that a command turns into the table of docs/correctness.md.

    CORRECTNESS_TABLE=table.md python -m pytest tests/parity -p no:xdist
"""

import os

import numpy as np
import pytest

from parity.goldens import relative_error

_measured = {}


@pytest.fixture(scope="session")
def agrees():
    """agrees(oracle, what, got, want, limit): asserts |got - want| / |want| < limit, and notes it for the table."""

    def check(oracle, what, got, want, limit):
        error = relative_error(got, want)
        worst, _, count = _measured.get((oracle, what), (0.0, limit, 0))
        _measured[oracle, what] = (max(worst, error), limit, count + np.size(want))
        assert error < limit

    return check


def pytest_sessionfinish(session):
    path = os.environ.get("CORRECTNESS_TABLE")
    if not path or not _measured:
        return
    lines = ["| against | what | numbers | largest relative difference | limit in the test |", "|---|---|---|---|---|"]
    for (oracle, what), (error, limit, count) in _measured.items():
        lines.append(f"| {oracle} | {what} | {count:,} | {error:.1e} | {limit:.0e} |")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
