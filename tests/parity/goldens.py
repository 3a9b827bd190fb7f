"""The committed outputs of other packages; make_goldens.py wrote them."""

import functools
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).with_name("files")


@functools.cache
def golden(name):
    """The arrays of a golden file, name -> array."""
    with np.load(FOLDER / f"{name}.npz") as data:
        return dict(data)


def relative_error(got, want):
    """|got - want| / |want| in the Euclidean norm, float64."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))
