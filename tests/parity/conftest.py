"""Asserts relative errors, and writes them as the table of docs/correctness.md on request:

CORRECTNESS_TABLE=table.md python -m pytest tests/parity -p no:xdist
"""

import os

import numpy as np
import pytest

from parity.goldens import relative_error

_errors = {}


@pytest.fixture(scope="session")
def agrees():
    """agrees(oracle, quantity, actual, expected, limit) asserts |actual - expected| / |expected| < limit."""

    def check(oracle, quantity, actual, expected, limit):
        error = relative_error(actual, expected)
        worst, _, count = _errors.get((oracle, quantity), (0.0, limit, 0))
        _errors[oracle, quantity] = (max(worst, error), limit, count + np.size(expected))
        assert error < limit

    return check


def pytest_sessionfinish(session):
    path = os.environ.get("CORRECTNESS_TABLE")
    if not path or not _errors:
        return
    lines = ["| against | what | numbers | largest relative difference | limit in the test |", "|---|---|---|---|---|"]
    for (oracle, quantity), (error, limit, count) in _errors.items():
        lines.append(f"| {oracle} | {quantity} | {count:,} | {error:.1e} | {limit:.0e} |")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
