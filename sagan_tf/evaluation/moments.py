"""Mean and covariance of rows that come in batches; NumPy in float64."""

import numpy as np


class Moments:
    """Running count, mean (D,) and scatter matrix (D, D), the sum of (x - mean)(x - mean)', of rows.

    Batches are merged by their own means and scatter matrices, so that a mean far from zero costs no precision.

    Source: Chan, Golub, LeVeque 1983, equation 2.1, https://doi.org/10.1080/00031305.1983.10483115.
    """

    def __init__(self, dimensions):
        self.count = 0
        self.mean = np.zeros(dimensions)
        self.scatter = np.zeros((dimensions, dimensions))

    @classmethod
    def of(cls, rows, block=1024):
        """Computes the moments of an array.

        Args:
            rows: (N, D) array, which may be a memory map.
            block: int >= 1, rows that are added at a time.

        Returns:
            Moments.

        Raises:
            ValueError: A value is not finite.
        """
        moments = cls(rows.shape[1])
        for start in range(0, len(rows), block):
            moments.add(rows[start : start + block])
        return moments

    @classmethod
    def from_arrays(cls, arrays):
        """Makes the moments from what `arrays` returned."""
        moments = cls(len(arrays["mean"]))
        moments.count, moments.mean, moments.scatter = int(arrays["moments_count"]), arrays["mean"], arrays["scatter"]
        return moments

    def arrays(self):
        """The moments as a dict of arrays."""
        return {"moments_count": self.count, "mean": self.mean, "scatter": self.scatter}

    def add(self, rows):
        """Adds rows (n, D), n >= 0; raises ValueError if a value is not finite or the shape does not match."""
        rows = np.asarray(rows, np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.mean) or not np.isfinite(rows).all():
            raise ValueError(f"`rows` must be finite, (n, {len(self.mean)}). Received: shape {rows.shape}.")
        if not len(rows):
            return
        mean = rows.mean(axis=0)
        centered = rows - mean
        self._merge(len(rows), mean, centered.T @ centered)

    def merge(self, other):
        """Adds the rows of another `Moments` with the same D."""
        if other.count:
            self._merge(other.count, other.mean, other.scatter)

    def _merge(self, count, mean, scatter):
        total = self.count + count
        shift = mean - self.mean
        self.mean = self.mean + shift * (count / total)
        self.scatter += scatter
        self.scatter += np.outer(shift, shift) * (self.count * count / total)
        self.count = total

    @property
    def covariance(self):
        """(D, D) float64, unbiased; raises ValueError for fewer than two rows."""
        if self.count < 2:
            raise ValueError(f"A covariance needs two rows or more. Received: {self.count}.")
        return self.scatter / (self.count - 1)
