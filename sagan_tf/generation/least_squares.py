"""Nonlinear least squares without derivatives: Levenberg-Marquardt, Broyden updates of the Jacobian, and noise.

SciPy's `least_squares` evaluates one point at a time, where a network takes many at once, and one step per Jacobian.
"""

import numpy as np

_DIFFERENCE = 3e-3  # of a variable to both sides, for the Jacobian; larger ones average over kinks of a ReLU network
_DAMPINGS = 10.0 ** np.arange(-2, 3)  # tried at once, relative to the last one
_FIRST_DAMPING, _LEAST_DAMPING = 1.0, 1e-9
_RAISED, _RAISES = 1e3, 3  # damping, where no step by a new Jacobian lowers the loss
_UPDATES = 40  # steps by one Jacobian at most
_GAIN, _GAIN_OF_JACOBIAN, _GAIN_OF_NOISE = 3e-4, 1e-3, 1e-2  # of the loss, relative; less ends each
_NOISE, _PATIENCE = 0.1, 3  # its standard deviation; how often in a row it may gain nothing


def minimize_squares(residuals, start, jacobians, goal=0.0, seed=0):
    """Minimizes the sum of squared residuals of variables whose scale is about 1.

    A step solves (J^T J + damping I) d = -J^T r. Five dampings are tried, and the best step is taken. It corrects J by
    the secant condition, so that a Jacobian, which costs 2 V rows of residuals, serves many steps of 5 rows each. Where
    the loss no longer falls, the search goes on from the best point plus noise, until that gains nothing three times.

    Args:
        residuals: function of variables (B, V) float32 -> (B, R), one row of residuals per row of variables.
        start: (V,), the variables to start from.
        jacobians: int >= 1, how many are computed at most.
        goal: float, loss that ends the search, after the steps of a Jacobian.
        seed: int >= 0, of the noise.

    Yields:
        After all steps of a Jacobian, the best variables so far, (V,) float32. Nothing where the loss of the start is
        not a number.

    Source: Levenberg 1944 and Marquardt 1963 for the damping; Broyden 1965 for the update. Madsen, Nielsen and Tingleff
        2004, section 3.5, combine them. Wales and Doye 1997 for the noise ("basin hopping", here at temperature 0).
    """
    rng = np.random.default_rng(seed)
    best = state = _State(residuals, start)
    loss_before_noise, without_gain = np.inf, 0
    for _ in range(jacobians if np.isfinite(best.loss) else 0):
        before = state.loss
        state.descend(_jacobian(residuals, state.point))
        if state.loss <= best.loss:
            best = state
        yield best.point
        if best.loss <= goal:
            return
        if state.loss > (1 - _GAIN_OF_JACOBIAN) * before:
            without_gain = without_gain + 1 if best.loss > (1 - _GAIN_OF_NOISE) * loss_before_noise else 0
            if without_gain == _PATIENCE:
                return
            loss_before_noise = best.loss
            state = _State(residuals, best.point + _NOISE * rng.standard_normal(len(best.point)))


class _State:
    """A point with its residuals, and the damping of the next step."""

    def __init__(self, residuals, point):
        self._residuals, self.point, self.damping = residuals, np.float32(point), _FIRST_DAMPING
        (self._row,), (self.loss,) = _measure(residuals, self.point[None])

    def descend(self, jacobian):
        """Takes steps by one Jacobian, (R, V), as long as they lower the loss."""
        raises = steps = 0
        while steps < _UPDATES and np.isfinite(jacobian).all():
            dampings = self.damping * _DAMPINGS
            points = np.float32(self.point + _steps(jacobian, self._row, dampings))
            rows, losses = _measure(self._residuals, points)
            i = losses.argmin()
            if losses[i] < self.loss and (points[i] != self.point).any():
                moved, gain = np.float64(points[i]) - self.point, 1 - losses[i] / self.loss
                jacobian += np.outer((rows[i] - self._row - jacobian @ moved) / (moved @ moved), moved)
                self.point, self._row, self.loss = points[i], rows[i], losses[i]
                self.damping = max(dampings[i], _LEAST_DAMPING)
                steps += 1
                if gain < _GAIN:
                    return
            elif steps or raises == _RAISES:  # the updated Jacobian is no longer good, or the loss at its lowest
                return
            else:
                self.damping, raises = _RAISED * self.damping, raises + 1


def _measure(residuals, points):
    """Residuals (B, R) float64, and losses (B,), infinite where they are not numbers."""
    rows = np.float64(residuals(points))
    losses = (rows**2).sum(1)
    return rows, np.where(np.isfinite(losses), losses, np.inf)


def _jacobian(residuals, point):
    """(R, V) float64, by central differences."""
    offsets = _DIFFERENCE * np.eye(len(point), dtype=np.float32)
    above, below = np.float64(residuals(point + offsets)), np.float64(residuals(point - offsets))
    return (above - below).T / (2 * _DIFFERENCE)


def _steps(jacobian, row, dampings):
    """(len(dampings), V)."""
    values, vectors = np.linalg.eigh(jacobian.T @ jacobian)
    slopes = vectors.T @ (jacobian.T @ row)
    return -(slopes / (values.clip(0) + dampings[:, None])) @ vectors.T
