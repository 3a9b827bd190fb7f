"""Precision, recall, density, coverage against their definitions in loops, in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from sagan_tf.evaluation import precision_recall
from sagan_tf.evaluation.precision_recall import manifold_metrics, nearest_neighbors


def definitions(features, reference, k, k_wide):
    """The papers' equations in loops."""

    def distance(a, b):
        return np.linalg.norm(a - b)

    def radii(rows, k):
        return [sorted(distance(a, b) for j, b in enumerate(rows) if j != i)[k - 1] for i, a in enumerate(rows)]

    narrow, wide, own = radii(reference, k), radii(reference, k_wide), radii(features, k)
    inside = [any(distance(x, y) <= r for y, r in zip(reference, narrow)) for x in features]
    recalled = [any(distance(x, y) <= r for x, r in zip(features, own)) for y in reference]
    hits = [sum(distance(x, y) <= r for y, r in zip(reference, wide)) for x in features]
    covered = [any(distance(x, y) <= r for x in features) for y, r in zip(reference, wide)]
    return np.mean(inside), np.mean(recalled), np.sum(hits) / (k_wide * len(features)), np.mean(covered)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(5, 25),
    others=st.integers(6, 25),
    columns=st.integers(1, 6),
    shift=st.floats(0, 3),
    offset=st.sampled_from([0.0, 300.0]),
)
def test_manifold_metrics_match_the_papers_definitions(seed, rows, others, columns, shift, offset):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, columns)).astype(np.float32) + np.float32(shift + offset)
    reference = rng.normal(size=(others, columns)).astype(np.float32) + np.float32(offset)
    metrics = manifold_metrics(features, reference, 3, 5)
    expected = definitions(features.astype(np.float64), reference.astype(np.float64), 3, 5)
    # A distance may round to either side of a radius: tolerance of one row of the smaller set.
    actual = (metrics.precision, metrics.recall, metrics.density, metrics.coverage)
    assert actual == pytest.approx(expected, abs=1.01 / min(rows, others))
    assert np.mean(np.abs(np.subtract(actual, expected)) < 1e-6) >= 0.5


@pytest.mark.parametrize("width", [1e3, 1e4])
def test_manifold_metrics_are_exact_for_tight_clusters_far_apart(width):
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(50, 64)) * width
    features, reference = (
        (centers[rng.integers(50, size=500)] + rng.normal(size=(500, 64))).astype(np.float32) for _ in range(2)
    )
    metrics = manifold_metrics(features, reference)
    across, among, own = (cdist(a, b) for a, b in ((features, reference), (reference, reference), (features, features)))
    radius, wide, own = np.sort(among)[:, 3], np.sort(among)[:, 5], np.sort(own)[:, 3]
    assert metrics.precision == np.mean((across <= radius).any(axis=1))
    assert metrics.recall == np.mean((across <= own[:, None]).any(axis=0))
    assert metrics.density == pytest.approx(np.sum(across <= wide) / (5 * 500), rel=1e-12)
    assert metrics.coverage == np.mean((across <= wide).any(axis=0))


def test_manifold_metrics_do_not_depend_on_the_block_size(monkeypatch):
    rng = np.random.default_rng(0)
    features, reference = rng.normal(size=(50, 4)), rng.normal(size=(70, 4)) + 0.5
    unblocked = manifold_metrics(features, reference), nearest_neighbors(features, reference, 3)
    monkeypatch.setattr(precision_recall, "_BLOCK_VALUES", 70 * 7)  # blocks of seven rows, the last one shorter
    blocked = manifold_metrics(features, reference), nearest_neighbors(features, reference, 3)
    assert blocked[0] == unblocked[0]
    known = precision_recall.own_distances(reference)
    assert known.shape == (70, 11) and manifold_metrics(features, reference, reference_distances=known) == unblocked[0]
    for part, all_ in zip(blocked[1], unblocked[1]):
        np.testing.assert_allclose(part, all_, rtol=1e-5)


def test_manifold_metrics_are_exact_for_equal_distant_and_collapsed_sets():
    rng = np.random.default_rng(1)
    reference = rng.normal(size=(200, 8))
    same = manifold_metrics(reference, reference)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1) and same.density > 1
    far = manifold_metrics(reference + 100, reference)
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)
    collapsed = manifold_metrics(reference[:10].repeat(20, axis=0) + 1e-3 * rng.normal(size=(200, 8)), reference)
    assert collapsed.precision == 1 and collapsed.recall < 0.2 and collapsed.coverage < 0.6


def test_nearest_neighbors_match_all_distances():
    rng = np.random.default_rng(2)
    queries, reference = rng.normal(size=(9, 5)), rng.normal(size=(40, 5))
    apart = np.linalg.norm(queries[:, None] - reference[None], axis=-1)
    distances, indices = nearest_neighbors(queries, reference, 4)
    np.testing.assert_array_equal(indices, np.argsort(apart, axis=1)[:, :4])
    np.testing.assert_allclose(distances, np.sort(apart, axis=1)[:, :4], rtol=1e-5)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: manifold_metrics(np.zeros((3, 2)), np.zeros((9, 2))), "less than the number of rows"),
        (lambda: manifold_metrics(np.zeros((9, 2)), np.zeros((5, 2))), "less than the number of rows"),
        (lambda: manifold_metrics(np.zeros((9, 2)), np.zeros((9, 3))), r"\(N, D\) and \(M, D\)"),
        (lambda: manifold_metrics(np.full((9, 2), np.nan), np.zeros((9, 2))), "finite"),
        (lambda: nearest_neighbors(np.zeros((3, 2)), np.zeros((9, 2)), 10), "`count`"),
    ],
)
def test_manifold_metrics_reject_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
