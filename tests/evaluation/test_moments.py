"""Streamed moments against NumPy's moments of all rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagan_tf.evaluation.moments import Moments


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(2, 60),
    columns=st.integers(1, 8),
    block=st.integers(1, 70),
    offset=st.sampled_from([0.0, 1e6]),
)
def test_moments_are_independent_of_the_batches(seed, rows, columns, block, offset):
    values = np.random.default_rng(seed).normal(size=(rows, columns)) + offset
    moments = Moments.of(values, block)
    assert moments.count == rows
    np.testing.assert_allclose(moments.mean, values.mean(axis=0), rtol=1e-12)
    # At 1e6 a sum of squares would lose all digits of the variance.
    np.testing.assert_allclose(moments.covariance, np.cov(values, rowvar=False).reshape(columns, columns), atol=1e-8)


def test_moments_merge_equals_add():
    values = np.random.default_rng(0).normal(size=(30, 4))
    first, second, empty = Moments.of(values[:11]), Moments.of(values[11:]), Moments(4)
    first.merge(second)
    first.merge(empty)
    empty.merge(first)
    for merged in (first, empty):
        np.testing.assert_allclose(merged.covariance, np.cov(values.T), rtol=1e-12)


@pytest.mark.parametrize("rows", [np.full((2, 3), np.nan), np.zeros((2, 4)), np.zeros(3)])
def test_moments_reject_bad_rows(rows):
    with pytest.raises(ValueError, match=r"finite, \(n, 3\)"):
        Moments(3).add(rows)


def test_moments_reject_covariance_of_one_row():
    with pytest.raises(ValueError, match="two rows"):
        _ = Moments.of(np.zeros((1, 3))).covariance
