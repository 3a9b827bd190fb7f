import numpy as np
import pytest

from sagan_tf.evaluation.distances import frechet_distance_of_moments
from sagan_tf.evaluation.infinity import frechet_distance_at_infinity
from sagan_tf.evaluation.moments import Moments


class Standard:
    mean, covariance = np.zeros(30), np.eye(30)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_bias_of_few_samples_is_gone(shift):
    """Samples of N(shift, I) against N(0, I) itself: the true distance is 30 shift^2."""
    features = np.random.default_rng(0).normal(size=(2000, 30)) + shift
    plain = frechet_distance_of_moments(Moments.of(features), Standard)
    value, points = frechet_distance_at_infinity(features, Standard, least=200)
    truth = 30 * shift**2
    assert [size for size, _ in points] == sorted({size for size, _ in points}) and points[-1][0] == 2000
    assert points[-1][1] == pytest.approx(plain, rel=1e-6)
    assert abs(value - truth) < 0.3 * abs(plain - truth) + 0.02 * truth


def test_few_rows_are_refused():
    with pytest.raises(ValueError, match="`points`"):
        frechet_distance_at_infinity(np.zeros((20, 2)), Standard)
