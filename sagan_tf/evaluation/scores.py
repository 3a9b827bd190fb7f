"""The Inception score, from class probabilities; NumPy in float64.

Symbols: N images, K classes.
"""

import numpy as np
from numpy.typing import ArrayLike


def inception_score(probabilities: ArrayLike, splits: int = 10, seed: int | None = 0) -> tuple[float, float]:
    """Computes exp(mean over images of KL(p(y|x) || p(y))), with p(y) the mean of p(y|x) over the split.

    Args:
        probabilities: (N, K), rows sum to 1.
        splits: int >= 1, parts of nearly equal size, each with a score of its own.
        seed: int, of the random order in which the rows are split; None keeps their own, which must then be random.

    Returns:
        (mean, standard deviation) of floats, over the splits; each score is from 1 to K.

    Raises:
        ValueError: There are fewer images than splits, or a row does not hold probabilities.

    Source: Salimans et al. 2016, section 4, https://arxiv.org/abs/1606.03498.
    """
    probabilities = np.asarray(probabilities, np.float64)
    if probabilities.ndim != 2 or not 1 <= splits <= len(probabilities):
        raise ValueError(
            f"`probabilities` must be (N, K) and `splits` in 1 .. N. Received: shape {probabilities.shape}, {splits=}."
        )
    # A sum of a thousand float32 numbers is off by 1e-4 at most. NaN fails both comparisons.
    if not ((probabilities >= 0).all() and (abs(probabilities.sum(axis=1) - 1) < 1e-3).all()):
        raise ValueError("`probabilities` must have non-negative rows that sum to 1. Received rows that do not.")
    parts = np.repeat(np.arange(splits), [len(part) for part in np.array_split(probabilities, splits)])
    if seed is not None:
        parts = np.random.default_rng(seed).permutation(parts)
    sums = ScoreSums(parts, splits, probabilities.shape[1])
    sums.add(probabilities)
    return sums.score()


class ScoreSums:
    """Sums from which the Inception score of rows that come in batches is computed.

    Per split: its number of rows `sizes`, and the sums `totals` of the probabilities p and `entropies` of p log p.

    Args:
        parts: (N,) ints from 0, the split of each row.
        num_parts: int.
        num_classes: int, K.
    """

    def __init__(self, parts, num_parts, num_classes):
        self._parts, self.sizes = np.asarray(parts), np.zeros(num_parts, int)
        self.totals, self.entropies = np.zeros((num_parts, num_classes)), np.zeros(num_parts)

    @classmethod
    def from_arrays(cls, arrays):
        """Makes the sums from what `arrays` returned; they take no more rows."""
        sums = cls([], *arrays["totals"].shape)
        sums.restore(arrays)
        return sums

    def arrays(self):
        """The sums as a dict of arrays."""
        return {"sizes": self.sizes, "totals": self.totals, "entropies": self.entropies}

    def restore(self, arrays):
        """Takes over sums that `arrays` returned."""
        self.sizes, self.totals, self.entropies = (arrays[name] for name in ("sizes", "totals", "entropies"))

    def add(self, probabilities):
        """Adds the next rows, (n, K); each sums to 1."""
        probabilities = np.asarray(probabilities, np.float64)
        done = self.sizes.sum()
        parts = self._parts[done : done + len(probabilities)]
        np.add.at(self.totals, parts, probabilities)
        entropies = (probabilities * np.log(np.where(probabilities > 0, probabilities, 1.0))).sum(axis=1)
        np.add.at(self.entropies, parts, entropies)
        np.add.at(self.sizes, parts, 1)

    def score(self):
        """The score of all rows: (mean, standard deviation) over the splits, floats."""
        shares = np.where(self.totals > 0, self.totals, 1.0) / self.sizes[:, None]
        marginal = (self.totals * np.log(shares)).sum(axis=1)
        scores = np.exp((self.entropies - marginal) / self.sizes)
        return float(np.mean(scores)), float(np.std(scores))
