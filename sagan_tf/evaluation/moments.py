"""Mean and covariance of rows that come in parts; NumPy in float64."""

import numpy as np


class Moments:
    """Count, mean and covariance of rows, of which only these are kept.

    Parts are joined by their own means and scatters, so that a mean far from zero costs no digits.

    Args:
        dimensions: int, D.

    Attributes:
        count: int, rows so far.
        mean: (D,) float64.
        scatter: (D, D) float64, sum of (x - mean)(x - mean)'.

    Source: Chan, Golub, LeVeque 1983, equation 2.1, https://doi.org/10.1080/00031305.1983.10483115.
    """

    def __init__(self, dimensions):
        self.count = 0
        self.mean = np.zeros(dimensions)
        self.scatter = np.zeros((dimensions, dimensions))

    @classmethod
    def of(cls, rows, block=1024):
        """Takes all rows of an array, a block at a time.

        Args:
            rows: (N, D), of any float type; may be a memory map.
            block: int >= 1.

        Returns:
            Moments.
        """
        moments = cls(rows.shape[1])
        for start in range(0, len(rows), block):
            moments.add(rows[start : start + block])
        return moments

    def add(self, rows):
        """Takes more rows.

        Args:
            rows: (n, D), n from 0.

        Raises:
            ValueError: A value is not finite, or the shape is another.
        """
        rows = np.asarray(rows, np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.mean) or not np.isfinite(rows).all():
            raise ValueError(f"`rows` must be finite, (n, {len(self.mean)}). Received: shape {rows.shape}.")
        if not len(rows):
            return
        mean = rows.mean(axis=0)
        centred = rows - mean
        self._join(len(rows), mean, centred.T @ centred)

    def merge(self, other):
        """Takes the rows that another has seen.

        Args:
            other: `Moments` of as many dimensions.
        """
        if other.count:
            self._join(other.count, other.mean, other.scatter)

    def _join(self, count, mean, scatter):
        total = self.count + count
        apart = mean - self.mean
        self.mean = self.mean + apart * (count / total)
        self.scatter += scatter
        self.scatter += np.outer(apart, apart) * (self.count * count / total)
        self.count = total

    @property
    def covariance(self):
        """(D, D) float64, unbiased.

        Raises:
            ValueError: There are fewer than two rows.
        """
        if self.count < 2:
            raise ValueError(f"A covariance takes two rows or more. Received: {self.count}.")
        return self.scatter / (self.count - 1)
