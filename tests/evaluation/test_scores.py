"""The Inception score at its bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagan_tf.evaluation import inception_score


def test_inception_score_is_exact_at_its_extremes():
    certain = np.eye(5)[np.arange(40) % 5]
    assert inception_score(certain, splits=4, seed=None) == pytest.approx((5, 0))
    assert inception_score(np.full((40, 5), 0.2)) == pytest.approx((1, 0))
    assert inception_score(np.eye(5)[np.zeros(40, int)]) == pytest.approx((1, 0))


def test_inception_score_does_not_depend_on_the_order_of_the_rows():
    by_class = np.eye(5)[np.repeat(np.arange(5), 400)]
    assert inception_score(by_class)[0] == pytest.approx(5, rel=0.02)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 10))
def test_inception_score_is_between_one_and_the_number_of_classes(seed, classes):
    shares = np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), 50)
    mean, sd = inception_score(shares, splits=5)
    assert 1 - 1e-12 <= mean <= classes and sd >= 0


@pytest.mark.parametrize(
    "probabilities, message",
    [
        (np.zeros((3, 2)), "`splits`"),
        (np.ones((30, 2)), "sum to 1"),
        (np.full((30, 2), np.nan), "sum to 1"),
    ],
)
def test_inception_score_rejects_bad_arguments(probabilities, message):
    with pytest.raises(ValueError, match=message):
        inception_score(probabilities)
