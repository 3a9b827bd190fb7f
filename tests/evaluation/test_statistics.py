"""Files of statistics: round trips, and files that are rejected with a reason."""

import numpy as np
import pytest

from sagan_tf.errors import UserError
from sagan_tf.evaluation.collector import FeatureSet
from sagan_tf.evaluation.moments import Moments
from sagan_tf.evaluation.statistics import mismatch, read_statistics, save_statistics


def feature_set(**changes):
    features = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    about = {"data": "twins", "count": 9, "features": {"name": "Inception", "sha256": "ab"}, "class_names": ["ü", "b"]}
    return FeatureSet(
        **{
            "about": about,
            "count": 9,
            "moments": Moments.of(features),
            "features": features,
            "indices": np.arange(9),
            "labels": np.arange(9, dtype=np.int32) % 2,
            "score": (1.5, 0.1),
            "own_distances": np.ones((9, 2), np.float32),
            **changes,
        }
    )


@pytest.mark.parametrize("missing", [{}, {"labels": None, "score": None}, {"features": None, "indices": None}])
def test_statistics_read_back_equal(tmp_path, missing):
    given = feature_set(**missing)
    save_statistics(given, tmp_path / "new" / "x.npz")
    back = read_statistics(tmp_path / "new" / "x.npz")
    assert back.about == given.about and back.count == 9 and back.score == given.score
    np.testing.assert_allclose(back.moments.covariance, given.moments.covariance, rtol=1e-12)
    for name in ("features", "indices", "labels", "own_distances"):
        np.testing.assert_array_equal(getattr(back, name), getattr(given, name))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.npz"]


def test_read_statistics_accepts_moments_of_another_program(tmp_path):
    covariance = np.cov(np.random.default_rng(1).normal(size=(3, 20)))
    np.savez(tmp_path / "theirs.npz", mu=np.arange(3.0), sigma=covariance)
    statistics = read_statistics(tmp_path / "theirs.npz")
    np.testing.assert_allclose(statistics.moments.covariance, covariance)
    assert statistics.features is None and statistics.count == 0 and "unknown" in statistics.about["made_by"]
    assert len(statistics.about["sha256"]) == 64


MOMENTS = {"mu": np.zeros(2), "sigma": np.eye(2)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 no zip",
        {"mu": np.zeros(3)},
        {"mu": np.zeros(3), "sigma": np.zeros((2, 2))},
        {"mu": np.full(2, np.nan), "sigma": np.eye(2)},
        {"mu": np.zeros(2), "sigma": -np.eye(2)},
        {"mu": np.zeros(2), "sigma": np.array([[1.0, 0.5], [0, 1]])},
        {"mu": np.zeros(2), "sigma": 1j * np.eye(2)},
        {"mu": np.zeros(2), "sigma": np.array([[1.0, 2], [2, 1]])},
        {"mu": np.zeros(0), "sigma": np.zeros((0, 0))},
        {**MOMENTS, "about": "[]", "count": 3},
        {**MOMENTS, "about": "{}", "count": -1},
        {**MOMENTS, "about": '{"a": 1}'},
        {**MOMENTS, "about": '{"features": "inception"}', "count": 3},
        {**MOMENTS, "about": '{"a": 1}', "count": np.nan},
        {**MOMENTS, "about": '{"a": 1}', "count": 3, "score": "x"},
        {**MOMENTS, "about": '{"a": 1}', "count": 3, "indices": np.arange(3), "features": np.array(["a", "b", "c"])},
        {"mu": np.array([object()]), "sigma": np.eye(1)},
    ],
)
def test_read_statistics_rejects_other_files(tmp_path, content):
    path = tmp_path / "x.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    with pytest.raises(UserError, match="not a file of statistics"):
        read_statistics(path)


@pytest.mark.parametrize("distances", [np.zeros(9), np.zeros((8, 2)), np.array([["a"]] * 9)])
def test_read_statistics_rejects_distances_that_do_not_fit(tmp_path, distances):
    save_statistics(feature_set(own_distances=distances), tmp_path / "x.npz")
    with pytest.raises(UserError, match="do not fit each other"):
        read_statistics(tmp_path / "x.npz")


def test_read_statistics_rejects_features_that_are_not_finite(tmp_path):
    features = np.full((9, 4), np.nan, np.float32)
    save_statistics(feature_set(features=features), tmp_path / "x.npz")
    with pytest.raises(UserError, match="do not fit each other"):
        read_statistics(tmp_path / "x.npz")


def test_statistics_mismatch_names_the_first_difference():
    about = feature_set().about
    assert mismatch(about, about) is None and mismatch({**about, "more": 1}, about) is None
    assert mismatch(about, {**about, "count": 10}) == "`count` is 9, expected 10"
    other = {**about, "features": {"name": "Inception", "sha256": "cd"}}
    assert mismatch(about, other) == '`sha256` is "ab", expected "cd"'
    long = {"preprocessing": "resized to 32 px (bilinear, antialiased), black and white at -1,1, or so"}
    reason = mismatch(long, {"preprocessing": long["preprocessing"].replace("-1,1", "0,255")})
    assert "white at -1,1, or so" in reason and "white at 0,255, or so" in reason and len(reason) < 150
    assert mismatch({}, {"split": "test"}) == '`split` is null, expected "test"'
