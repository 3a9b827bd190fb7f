"""All metrics of two sets: titles, notes, and reasons for those left out."""

import numpy as np
import pytest

from sagan_tf.evaluation import frechet_distance, kernel_distance
from sagan_tf.evaluation.collector import FeatureSet
from sagan_tf.evaluation.metric_names import METRICS
from sagan_tf.evaluation.metrics import compute_metrics, expected_coverage
from sagan_tf.evaluation.moments import Moments
from sagan_tf.evaluation.precision_recall import manifold_metrics


def feature_set(seed, rows=60, columns=6, classes=3, **changes):
    features = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32) + 0.1 * seed
    return FeatureSet(
        **{
            "about": {},
            "count": rows,
            "moments": Moments.of(features),
            "features": features,
            "indices": np.arange(rows),
            "labels": np.arange(rows) % classes,
            "score": (2.0, 0.1),
            **changes,
        }
    )


def test_compute_metrics_matches_the_functions():
    generated, reference = feature_set(1), feature_set(2, rows=80)
    metrics, left_out = compute_metrics(generated, reference, show_progress=False)
    by_key = {metric.key: metric for metric in metrics}
    assert left_out == {}
    a, b = generated.features, reference.features
    assert by_key["frechet_distance"].value == pytest.approx(frechet_distance(a, b), rel=1e-6)
    by_class = [frechet_distance(a[generated.labels == k], b[reference.labels == k]) for k in range(3)]
    assert by_key["intra_frechet_distance"].value == pytest.approx(np.mean(by_class), rel=1e-6)
    # 60 of the 80 images in random order: near the distance of all, and not biased by order.
    assert by_key["kernel_distance"].value == pytest.approx(kernel_distance(a, b)[0], abs=0.2)
    both = manifold_metrics(a, b)
    for key in ("precision", "recall", "density", "coverage"):
        assert by_key[key].value == getattr(both, key)


@pytest.mark.slow
def test_kernel_distance_compares_all_classes_of_sets_of_different_sizes():
    rng, sets = np.random.default_rng(0), []
    for rows in (10_000, 2000):
        labels = np.repeat(np.arange(10), rows // 10)
        centers = 2 * np.random.default_rng(1).normal(size=(10, 8))
        features = (centers[labels] + rng.normal(size=(rows, 8))).astype(np.float32)
        sets.append(feature_set(0, features=features, count=rows, labels=labels, moments=Moments.of(features)))
    (metric,), _ = compute_metrics(*sets, ("kid",), show_progress=False)
    shuffled = [kernel_distance(rng.permutation(sets[0].features)[:2000], sets[1].features, 2000)[0] for _ in range(4)]
    assert abs(metric.value) < 5 * np.abs(shuffled).max()


def test_kernel_distance_of_sets_in_class_order_has_mean_zero():
    values, centers = [], 2 * np.random.default_rng(1).normal(size=(10, 8))
    for draw in range(200):
        rng, sets = np.random.default_rng(draw), []
        for rows in (150, 400):
            labels = np.sort(rng.integers(0, 10, rows))
            features = (centers[labels] + rng.normal(size=(rows, 8))).astype(np.float32)
            sets.append(feature_set(0, features=features, count=rows, labels=labels, moments=Moments.of(features)))
        values.append(compute_metrics(*sets, ("kid",), show_progress=False)[0][0].value)
    assert abs(np.mean(values)) < 2 * np.std(values) / np.sqrt(len(values))


@pytest.mark.parametrize("rows, blocks", [(60, "blocks of 60"), (1000, "blocks of 1,000"), (1501, "blocks of 750")])
def test_kernel_distance_note_has_the_size_of_its_blocks(rows, blocks):
    sets = [feature_set(seed, rows=rows, columns=2) for seed in (1, 2)]
    (metric,), _ = compute_metrics(*sets, ["kid"], show_progress=False)
    assert metric.note.endswith(blocks)


def test_metric_titles_are_the_published_names_only_with_inception():
    metrics, _ = compute_metrics(feature_set(1), feature_set(2), ("fid", "kid", "is", "intra_fid"), show_progress=False)
    assert [metric.title(True) for metric in metrics] == [
        "FID",
        "KID",
        "Inception Score",
        "Inception Score of the data",
        "intra-FID",
    ]
    assert not any(word in metric.title(False) for metric in metrics for word in ("FID", "KID", "Inception"))


def test_metric_note_says_biased_when_images_are_fewer_than_features():
    (metric,), _ = compute_metrics(feature_set(1, rows=5), feature_set(2), ("fid",))
    assert metric.note == "biased upwards: 5 samples for 6 features"
    (metric,), _ = compute_metrics(feature_set(1), feature_set(2, rows=4), ("fid",))
    assert metric.note == "biased upwards: 4 images for 6 features"
    (metric,), _ = compute_metrics(feature_set(1), feature_set(2), ("fid",))
    assert metric.note == ""
    (metric,), _ = compute_metrics(feature_set(1, classes=15), feature_set(2, classes=15), ("intra_fid",))
    assert "biased upwards" in metric.note and "mean of 15 classes, at least 4 samples and 4 images" in metric.note


def test_compute_metrics_gives_reason_for_omitted_metrics():
    bare = feature_set(2, features=None, indices=None, labels=None, score=None)
    metrics, left_out = compute_metrics(feature_set(1, score=None), bare)
    assert [metric.key for metric in metrics] == ["frechet_distance"]
    assert set(left_out) == set(METRICS) - {"fid"}
    assert "no class probabilities" in left_out["is"] and "features of single images" in left_out["kid"]
    _, left_out = compute_metrics(feature_set(1), feature_set(2, rows=4), ("density_coverage",), show_progress=False)
    assert left_out == {"density_coverage": "there are too few images"}


def test_compute_metrics_gives_reason_when_samples_are_few():
    few = feature_set(1, rows=4, classes=4)
    metrics, left_out = compute_metrics(few, feature_set(2), ("fid", "intra_fid"), at_infinity=True)
    assert [metric.key for metric in metrics] == ["frechet_distance"]
    assert left_out == {
        "intra_fid": "no class has two samples and two images",
        "fid_at_infinity": "there are fewer than 30 samples",
    }


def test_compute_metrics_gives_reason_when_there_is_one_image():
    for counts in ((1, 5), (5, 1), (1, 1)):
        sets = [feature_set(i, rows=rows, moments=Moments(6)) for i, rows in enumerate(counts)]
        _, left_out = compute_metrics(*sets, ("fid", "kid"), show_progress=False)
        assert left_out == dict.fromkeys(("fid", "kid"), "there is only one image")


@pytest.mark.parametrize(
    "name, keys",
    [
        ("precision_recall", {"precision", "recall"}),
        ("density_coverage", {"density", "coverage"}),
    ],
)
def test_manifold_metric_pairs_are_selected_by_name(name, keys):
    metrics, _ = compute_metrics(feature_set(1), feature_set(2), (name,), show_progress=False)
    assert {metric.key for metric in metrics} == keys


@pytest.mark.parametrize(("samples", "images", "neighbors"), [(30, 30, 5), (20, 60, 3), (50, 20, 5)])
def test_expected_coverage_is_the_mean_of_samples_of_the_data(samples, images, neighbors):
    rng = np.random.default_rng(0)
    found = [
        manifold_metrics(rng.normal(size=(samples, 4)), rng.normal(size=(images, 4)), 2, neighbors).coverage
        for _ in range(300)
    ]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - expected_coverage(samples, images, neighbors)) < 4 * error
