"""Distances between features against closed forms, SciPy and general properties."""

import math

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from sagan_tf.evaluation import frechet_distance, kernel_distance
from sagan_tf.evaluation.distances import (
    COVARIANCES,
    frechet_distance_at_infinity,
    frechet_distance_of_moments,
    trace_distance,
)
from sagan_tf.evaluation.moments import Moments

seeds = st.integers(0, 2**32 - 1)


def features(seed, rows, columns, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, columns)) @ rng.normal(size=(columns, columns)) + shift


@settings(max_examples=30)
@given(seed=seeds, rows=st.integers(2, 40), columns=st.integers(1, 12), covariance=st.sampled_from(COVARIANCES))
def test_frechet_distance_is_symmetric_and_zero_for_equal_sets(seed, rows, columns, covariance):
    first, second = features(seed, rows, columns), features(seed + 1, rows + 3, columns, 1.0)
    scale = np.trace(np.atleast_2d(np.cov(first, rowvar=False))) + 1
    assert frechet_distance(first, first, covariance) == pytest.approx(0, abs=1e-10 * scale)
    assert frechet_distance(first, second, covariance) == pytest.approx(
        frechet_distance(second, first, covariance), rel=1e-9
    )
    shuffled = np.random.default_rng(seed).permutation(first)
    assert frechet_distance(shuffled, second, covariance) == pytest.approx(
        frechet_distance(first, second, covariance), rel=1e-9
    )


@settings(max_examples=20)
@given(seed=seeds, columns=st.integers(1, 8))
def test_frechet_distance_matches_closed_form_when_covariances_commute(seed, columns):
    """Sets with means m1, m2 and variances in one basis: |m1 - m2|^2 + sum (s1 - s2)^2."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(columns, columns)))[0]
    whitened = features(seed, 5 * columns + 5, columns)
    root = np.linalg.cholesky(np.cov(whitened.T).reshape(columns, -1))
    whitened = (whitened - whitened.mean(0)) @ np.linalg.inv(root).T
    sd, means = rng.uniform(0, 3, (2, columns)), rng.normal(size=(2, columns))
    first, second = ((whitened * sd[i]) @ basis.T + means[i] for i in range(2))
    expected = np.sum((means[0] - means[1]) ** 2) + np.sum((sd[0] - sd[1]) ** 2)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-8)


@settings(max_examples=20)
@given(seed=seeds, columns=st.integers(2, 10))
def test_trace_distance_matches_scipy_matrix_square_root(seed, columns):
    first, second = (np.cov(features(seed + i, 6 * columns, columns).T) for i in range(2))
    expected = np.trace(first + second - 2 * np.real(scipy.linalg.sqrtm(first @ second)))
    assert trace_distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_is_exact_when_rows_are_fewer_than_features():
    """Rank 4 in 50 dimensions: the same numbers in their own 4 dimensions give the same distance."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(50, 50)))[0][:4]
    small = [rng.normal(size=(5, 4)) + i for i in range(2)]
    assert frechet_distance(*(s @ basis for s in small)) == pytest.approx(frechet_distance(*small), rel=1e-9)


def test_kernel_distance_matches_definition_by_loops():
    first, second = features(0, 6, 3), features(1, 5, 3)

    def k(x, y):
        return (x @ y / 3 + 1) ** 3

    expected = np.mean([k(a, b) for i, a in enumerate(first) for j, b in enumerate(first) if i != j])
    expected += np.mean([k(a, b) for i, a in enumerate(second) for j, b in enumerate(second) if i != j])
    expected -= 2 * np.mean([k(a, b) for a in first for b in second])
    distance, error = kernel_distance(first, second)
    assert distance == pytest.approx(expected, rel=1e-10) and math.isnan(error)


def test_kernel_distance_is_unbiased():
    """The mean over pairs of sets of one distribution is 0 within its own standard error."""
    pairs = [
        kernel_distance(
            np.random.default_rng(i).normal(size=(40, 4)), np.random.default_rng(1000 + i).normal(size=(40, 4))
        )[0]
        for i in range(300)
    ]
    assert abs(np.mean(pairs)) < 4 * np.std(pairs) / math.sqrt(len(pairs))
    assert min(pairs) < 0 < max(pairs)


def test_kernel_distance_is_the_mean_over_blocks_with_standard_error():
    first, second = features(0, 100, 3), features(1, 90, 3, 0.5)
    alone = [
        kernel_distance(first[25 * i : 25 * i + 25], b)[0]
        for i, b in enumerate((second[:22], second[22:44], second[44:67], second[67:]))
    ]
    distance, error = kernel_distance(first, second, block_size=25, seed=None)
    assert distance == pytest.approx(np.mean(alone), rel=1e-10)
    assert error == pytest.approx(np.std(alone, ddof=1) / 2, rel=1e-10)


def class_mixture(rng, rows, classes=10):
    """Rows of ten clusters far apart, class by class."""
    centers = 2 * np.random.default_rng(0).normal(size=(classes, 16))
    return centers[np.sort(rng.integers(classes, size=rows))] + rng.normal(size=(rows, 16))


def test_kernel_distance_does_not_depend_on_the_order_of_either_set():
    rng = np.random.default_rng(1)
    first, second = class_mixture(rng, 2000), class_mixture(rng, 3000)
    distance, error = kernel_distance(first, second, block_size=250)
    assert abs(distance) < 4 * error
    for sets in ((rng.permutation(first), second), (first, rng.permutation(second))):
        assert abs(kernel_distance(*sets, block_size=250)[0] - distance) < error


def test_kernel_distance_in_blocks_is_unbiased_for_sets_in_class_order():
    values = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        values.append(kernel_distance(class_mixture(rng, 200), class_mixture(rng, 200), 50, seed)[0])
    assert abs(np.mean(values)) < 2 * np.std(values) / math.sqrt(len(values))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: frechet_distance(np.zeros((3, 2)), np.zeros((3, 4))), r"\(N, D\) and \(M, D\)"),
        (lambda: frechet_distance(np.zeros((1, 2)), np.zeros((3, 2))), r"N and M >= 2"),
        (lambda: frechet_distance(np.full((3, 2), np.nan), np.zeros((3, 2))), "finite"),
        (lambda: frechet_distance(np.zeros((3, 2)), np.zeros((3, 2)), "block"), "`covariance`"),
        (lambda: kernel_distance(np.zeros((3, 2)), np.zeros((3, 2)), 1), "`block_size`"),
        (lambda: kernel_distance(np.zeros((30, 2)), np.zeros((3, 2)), 10), "`block_size`"),
    ],
)
def test_distances_reject_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


class StandardNormal:
    mean, covariance = np.zeros(30), np.eye(30)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_frechet_distance_at_infinity_removes_the_bias(shift):
    """Samples of N(shift, I) against N(0, I) itself: the true distance is 30 shift^2."""
    features = np.random.default_rng(0).normal(size=(2000, 30)) + shift
    plain = frechet_distance_of_moments(Moments.of(features), StandardNormal)
    value, points = frechet_distance_at_infinity(features, StandardNormal, least=200)
    truth = 30 * shift**2
    assert [size for size, _ in points] == sorted({size for size, _ in points}) and points[-1][0] == 2000
    assert points[-1][1] == pytest.approx(plain, rel=1e-6)
    assert abs(value - truth) < 0.3 * abs(plain - truth) + 0.02 * truth


def test_frechet_distance_at_infinity_rejects_few_rows():
    with pytest.raises(ValueError, match="`features` must have 30 rows or more. Received: 20."):
        frechet_distance_at_infinity(np.zeros((20, 2)), StandardNormal)
