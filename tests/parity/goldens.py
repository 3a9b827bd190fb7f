"""The committed outputs of other packages, written by make_goldens.py."""

import functools
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).with_name("files")


@functools.cache
def golden(name):
    """Returns the arrays of a golden file, name -> array."""
    with np.load(FOLDER / f"{name}.npz") as data:
        return dict(data)


def relative_error(actual, expected):
    """Returns |actual - expected| / |expected| in the Euclidean norm and float64."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))
