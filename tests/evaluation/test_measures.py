"""All figures of two sets: what they are called, what is said of them, what cannot be told."""

import numpy as np
import pytest

from sagan_tf.evaluation import frechet_distance, kernel_distance
from sagan_tf.evaluation.collecting import FeatureSet
from sagan_tf.evaluation.manifolds import manifold_measures
from sagan_tf.evaluation.measures import METRICS, measure
from sagan_tf.evaluation.moments import Moments


def feature_set(seed, rows=60, columns=6, classes=3, **changes):
    features = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32) + 0.1 * seed
    return FeatureSet(**{
        "about": {}, "count": rows, "moments": Moments.of(features), "features": features,
        "indices": np.arange(rows), "labels": np.arange(rows) % classes, "score": (2.0, 0.1), **changes,
    })


def test_figures_are_those_of_the_functions():
    generated, reference = feature_set(1), feature_set(2, rows=80)
    figures, left_out = measure(generated, reference, show_progress=False)
    found = {figure.key: figure for figure in figures}
    assert left_out == {}
    a, b = generated.features, reference.features
    assert found["frechet_distance"].value == pytest.approx(frechet_distance(a, b), rel=1e-6)
    by_class = [frechet_distance(a[generated.labels == k], b[reference.labels == k]) for k in range(3)]
    assert found["intra_frechet_distance"].value == pytest.approx(np.mean(by_class), rel=1e-6)
    # 60 of the 80 pictures, in a random order: near the distance of all, and not biased by order.
    assert found["kernel_distance"].value == pytest.approx(kernel_distance(a, b)[0], abs=0.2)
    both = manifold_measures(a, b)
    for key in ("precision", "recall", "density", "coverage"):
        assert found[key].value == getattr(both, key)


def test_names_are_the_published_ones_with_inception_alone():
    figures, _ = measure(feature_set(1), feature_set(2), ("fid", "kid", "is", "intra_fid"), show_progress=False)
    assert [figure.title(True) for figure in figures] == [
        "FID", "KID", "Inception Score", "Inception Score of the data", "intra-FID"
    ]
    assert not any(word in figure.title(False) for figure in figures for word in ("FID", "KID", "Inception"))


def test_fewer_pictures_than_features_are_called_biased():
    (figure,), _ = measure(feature_set(1, rows=5), feature_set(2), ("fid",))
    assert figure.note == "biased upwards: 5 samples for 6 features"
    (figure,), _ = measure(feature_set(1), feature_set(2, rows=4), ("fid",))
    assert figure.note == "biased upwards: 4 pictures for 6 features"
    (figure,), _ = measure(feature_set(1), feature_set(2), ("fid",))
    assert figure.note == ""
    (figure,), _ = measure(feature_set(1, classes=15), feature_set(2, classes=15), ("intra_fid",))
    assert "biased upwards" in figure.note and "mean of 15 classes, at least 4 samples and 4 pictures" in figure.note


def test_what_cannot_be_told_has_its_reason():
    bare = feature_set(2, features=None, indices=None, labels=None, score=None)
    figures, left_out = measure(feature_set(1, score=None), bare)
    assert [figure.key for figure in figures] == ["frechet_distance"]
    assert set(left_out) == set(METRICS) - {"fid"}
    assert "no class probabilities" in left_out["is"] and "features of single pictures" in left_out["kid"]
    _, left_out = measure(feature_set(1), feature_set(2, rows=4), ("density_coverage",), show_progress=False)
    assert left_out == {"density_coverage": "there are too few pictures"}


@pytest.mark.parametrize("name, keys", [
    ("precision_recall", {"precision", "recall"}), ("density_coverage", {"density", "coverage"}),
])
def test_each_pair_comes_alone(name, keys):
    figures, _ = measure(feature_set(1), feature_set(2), (name,), show_progress=False)
    assert {figure.key for figure in figures} == keys
