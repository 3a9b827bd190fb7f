"""Features of a data set, kept in a file that says what they are of, so that no other set is taken for it."""

import json
from pathlib import Path

import numpy as np

from sagan_tf.errors import UserError
from sagan_tf.evaluation.collecting import FeatureSet
from sagan_tf.evaluation.moments import Moments
from sagan_tf.files.atomic import atomic_write, remove_temporary_files
from sagan_tf.files.hashing import sha256
from sagan_tf.files.untrusted import read_arrays

FORMAT = 1  # To be raised with any change of what is in a file or how it is computed.


def save_statistics(feature_set, path):
    """Writes a set of features as one `.npz` file, which appears only when it is complete.

    Args:
        feature_set: `FeatureSet`.
        path: Of the file; its folder is made.
    """
    path = Path(path)
    moments = feature_set.moments
    arrays = {"about": json.dumps(feature_set.about), "count": feature_set.count, "mu": moments.mean,
              "sigma": moments.covariance}
    for name in ("features", "indices", "labels", "score", "own_distances"):
        if getattr(feature_set, name) is not None:
            arrays[name] = np.asarray(getattr(feature_set, name))
    remove_temporary_files(path.parent, [path.name])  # the caller holds a lock
    with atomic_write(path) as temporary_path:
        np.savez(temporary_path, **arrays)


def read_statistics(path):
    """Reads a file of `save_statistics`, or one of means and covariances (`mu`, `sigma`) as other programs write.

    Args:
        path: Of the file.

    Returns:
        FeatureSet. Of another program's file it has the moments alone, `count` 0, and `about` says that nothing is
        known of how it was made.

    Raises:
        UserError: It cannot be read, or is something else.
    """
    try:
        arrays = read_arrays(path)
        mean, covariance = arrays["mu"].astype(np.float64), arrays["sigma"].astype(np.float64)
        about = json.loads(str(arrays["about"])) if "about" in arrays else None
    except Exception as error:  # damaged bytes make NumPy, zip and JSON raise anything
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path}: this is no file of statistics (mu, sigma): {reason}") from None
    square = mean.ndim == 1 and covariance.shape == (len(mean), len(mean))
    if not square or not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise UserError(f"{path}: this is no file of statistics; mu and sigma do not fit, or are not finite.")
    count = int(arrays["count"]) if about else 0
    return FeatureSet(
        about=about or {"data": Path(path).name, "sha256": sha256(path), "made_by": "another program, unknown how"},
        count=count,
        moments=_moments(count, mean, covariance),
        features=arrays.get("features"),
        indices=arrays.get("indices"),
        labels=arrays.get("labels"),
        score=tuple(map(float, arrays["score"])) if "score" in arrays else None,
        own_distances=arrays.get("own_distances"),
    )


def _moments(count, mean, covariance):
    moments = Moments(len(mean))
    # What another program does not say can be anything from two rows on; only the covariance is asked for.
    moments.count, moments.mean = max(count, 2), mean
    moments.scatter = covariance * (moments.count - 1)
    return moments


def mismatch(about, wanted):
    """Says why statistics are not those that are wanted.

    Args:
        about: dict, `FeatureSet.about`.
        wanted: dict, of the same form; only its keys are compared.

    Returns:
        str, the first difference in words; None where there is none.
    """
    for key, value in wanted.items():
        if about.get(key) != json.loads(json.dumps(value)):
            return f"`{key}` is {_short(about.get(key))}, wanted {_short(value)}"
    return None


def _short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
