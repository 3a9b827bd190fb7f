"""Cached features of a data set, in a file that records what they were computed from."""

import json
import os
from pathlib import Path

import numpy as np

from sagan_tf.errors import UserError, summarize
from sagan_tf.evaluation.collector import FeatureSet
from sagan_tf.evaluation.moments import Moments
from sagan_tf.files.atomic import atomic_write, remove_temporary_files
from sagan_tf.files.hashing import sha256
from sagan_tf.files.untrusted import read_arrays

FORMAT = 2  # Increase it with any change to the contents of a file or their computation.
_ROUNDING = 1e-4  # of the largest entry; other programs compute in float32


def save_statistics(feature_set, path):
    """Writes a `FeatureSet` as one `.npz` file, atomically; creates the folder."""
    path = Path(path)
    moments = feature_set.moments
    arrays = {
        "about": json.dumps(feature_set.about),
        "count": feature_set.count,
        "mu": moments.mean,
        "sigma": moments.covariance,
    }
    for name in ("features", "indices", "labels", "score", "own_distances"):
        if getattr(feature_set, name) is not None:
            arrays[name] = np.asarray(getattr(feature_set, name))
    remove_temporary_files(path.parent, [path.name])  # the caller holds a lock
    with atomic_write(path) as temporary_path:
        np.savez(temporary_path, **arrays)


def read_statistics(path):
    """Reads a file of `save_statistics`, or mean and covariance (`mu`, `sigma`) as other programs save them.

    Args:
        path: Path of an `.npz` file.

    Returns:
        `FeatureSet`; from another program's file it has only the moments, and `count` is 0.

    Raises:
        UserError: The file cannot be read, has no `mu` (D,) and `sigma` (D, D), which must be finite and a covariance,
            or its arrays do not fit each other.
    """
    try:
        arrays = read_arrays(path)
        mean, covariance = (arrays[name].astype(np.float64, casting="same_kind") for name in ("mu", "sigma"))
        about = json.loads(str(arrays["about"])) if "about" in arrays else None
    except Exception as error:  # Damaged bytes make NumPy, zip and JSON raise anything
        raise UserError(f"{path}: not a file of statistics (mu, sigma): {summarize(error)}") from None
    valid = mean.ndim == 1 and len(mean) and covariance.shape == (len(mean), len(mean))
    if not valid or not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise UserError(f"{path}: not a file of statistics; mu and sigma must be finite, (D,) and (D, D).")
    if not _is_covariance(covariance):
        raise UserError(f"{path}: not a file of statistics; sigma must be symmetric and positive semidefinite.")
    try:
        count = _check_own(arrays, about, len(mean)) if about is not None else 0
    except (KeyError, ValueError, TypeError, OverflowError):
        raise UserError(f"{path}: not a file of statistics; its arrays do not fit each other. Remove it.") from None
    if about is None:  # another program's
        about = {"data": Path(path).name, "sha256": sha256(path), "made_by": "another program, unknown how"}
        arrays = {}
    return FeatureSet(
        about=about,
        count=count,
        moments=_moments(count, mean, covariance),
        features=arrays.get("features"),
        indices=arrays.get("indices"),
        labels=arrays.get("labels"),
        score=tuple(map(float, arrays["score"])) if "score" in arrays else None,
        own_distances=arrays.get("own_distances"),
    )


def _check_own(arrays, about, dimensions):
    """Returns the number of images of a file of `save_statistics`; raises ValueError and others for other arrays."""
    count, rows = int(arrays["count"]), len(arrays.get("indices", ()))
    shapes = {"score": (2,)}
    if "indices" in arrays:
        columns = np.shape(arrays.get("own_distances"))[-1:]
        shapes |= {
            "features": (rows, dimensions),
            "indices": (rows,),
            "labels": (rows,),
            "own_distances": (rows, *columns),
        }
    fit = all(name not in arrays or arrays[name].shape == shape for name, shape in shapes.items())
    numbers = all(arrays[name].dtype.kind in "fiu" for name in shapes if name in arrays)
    is_described = isinstance(about, dict) and isinstance(about.get("features"), dict | None)
    finite = numbers and np.isfinite(arrays.get("features", 0.0)).all()
    if not (is_described and fit and finite and rows <= count and count > 0):
        raise ValueError
    return count


def _is_covariance(matrix):
    tolerance = _ROUNDING * max(1e-300, np.abs(matrix).max(initial=0))
    return np.abs(matrix - matrix.T).max(initial=0) <= tolerance and np.linalg.eigvalsh(matrix).min() >= -tolerance


def _moments(count, mean, covariance):
    count = max(count, 2)  # If the count is unknown, any count from 2 on gives the same covariance.
    return Moments.from_arrays({"moments_count": count, "mean": mean, "scatter": covariance * (count - 1)})


def mismatch(about, expected):
    """Describes how a set of features differs from what is expected.

    Args:
        about: dict, `FeatureSet.about`.
        expected: dict of JSON values.

    Returns:
        str, on the first key of `expected` whose value differs in `about`; None if none does.
    """
    for key, value in json.loads(json.dumps(expected)).items():
        found = about.get(key)
        if isinstance(found, dict) and isinstance(value, dict) and (reason := mismatch(found, value)) is not None:
            return reason
        if found != value:
            return f"`{key}` is {_short(found, value)}, expected {_short(value, found)}"
    return None


def _short(value, other):
    """A value as JSON; of a long one, the part where it begins to differ from the other."""
    text, other = (json.dumps(one, ensure_ascii=False) for one in (value, other))
    start = max(0, len(os.path.commonprefix([text, other])) - 20) if len(text) > 60 else 0
    return ("..." if start else "") + text[start : start + 60] + ("..." if len(text) > start + 60 else "")
