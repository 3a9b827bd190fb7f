"""Least squares without derivatives finds the minima that linear algebra and known functions have."""

import numpy as np
import pytest

from sagan_tf.generation import least_squares
from sagan_tf.generation.least_squares import minimize_squares


class Counted:
    """Residuals that count the rows they are asked for."""

    def __init__(self, function):
        self.function, self.rows = function, 0

    def __call__(self, points):
        assert points.dtype == np.float32 and points.ndim == 2
        self.rows += len(points)
        return self.function(points)


def rosenbrock(points):
    """A narrow curved valley, whose minimum of 0 is at (1, 1)."""
    x, y = np.float64(points).T
    return np.stack([10 * (y - x**2), 1 - x], axis=1)


def losses_of(points, function):
    return [float((np.float64(function(point[None])) ** 2).sum()) for point in points]


@pytest.mark.parametrize("seed", range(3))
def test_the_minimum_of_a_linear_problem_is_that_of_numpy(seed):
    rng = np.random.default_rng(seed)
    matrix, target = rng.standard_normal((20, 5)), rng.standard_normal(20)
    *_, found = minimize_squares(lambda points: points @ matrix.T - target, np.zeros(5), 10)
    np.testing.assert_allclose(found, np.linalg.lstsq(matrix, target, rcond=None)[0], rtol=1e-3, atol=1e-4)


def test_a_curved_valley_is_followed_to_its_end_and_the_loss_never_rises():
    points = list(minimize_squares(rosenbrock, [-1.2, 1.0], 30, goal=1e-10))
    np.testing.assert_allclose(points[-1], [1, 1], atol=1e-3)
    losses = losses_of(points, rosenbrock)
    assert losses == sorted(losses, reverse=True)


def test_the_goal_ends_the_search_and_a_jacobian_serves_many_steps():
    residuals = Counted(rosenbrock)
    points = list(minimize_squares(residuals, [-1.2, 1.0], 30, goal=1e-3))
    assert losses_of(points, rosenbrock)[-1] <= 1e-3 < min(losses_of(points[:-1], rosenbrock), default=1)
    assert len(points) < 10 and residuals.rows > 20 * len(points)  # one step by each would cost 4 + 5


def test_noise_leads_out_of_shallow_minima(monkeypatch):
    def rippled(points):
        return 0.3 + 0.5 * np.float64(points) ** 2 + 0.02 * np.sin(50 * np.float64(points))

    starts = np.linspace(0.7, 1.2, 8)

    def losses():
        found = [list(minimize_squares(rippled, [start], 60))[-1] for start in starts]
        return np.array(losses_of(found, rippled))

    with_noise = losses()
    monkeypatch.setattr(least_squares, "_NOISE", 0.0)
    without = losses()
    assert (with_noise < 1.001 * without).all() and with_noise.max() < 0.98 * without.max()


def test_a_search_that_gains_nothing_ends_early():
    constant = Counted(lambda points: np.ones((len(points), 3)) + 0 * points[:, :1])
    assert len(list(minimize_squares(constant, np.zeros(4), 50))) == 4  # three after noise
    assert constant.rows < 200


@pytest.mark.parametrize("variables", [4, 40])
def test_residuals_that_are_no_numbers_end_the_search(variables):
    start = np.zeros(variables)
    assert not list(minimize_squares(lambda points: np.nan * points, start, 5))

    def valley(points):
        """Not defined beyond 1, where its minimum would be."""
        return np.where(points > 1, np.nan, points - 1.5)

    *_, found = minimize_squares(valley, start, 20)
    assert np.isfinite(found).all() and (found <= 1).all() and found.mean() > 0.5


def test_noise_leads_away_from_a_stationary_point():
    """No step from 0 lowers the loss, and the damping rises; those after noise start with the first damping again."""
    *_, found = minimize_squares(lambda points: 1 - np.float64(points) ** 2, [0.0], 10)
    np.testing.assert_allclose(np.abs(found), 1, atol=1e-3)
