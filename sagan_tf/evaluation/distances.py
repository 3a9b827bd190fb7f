"""Fréchet distance, kernel distance and Inception score, from arrays in memory; NumPy in float64.

Symbols: N, M pictures, D features, K classes.
"""

import numpy as np

COVARIANCES = ("full", "diagonal", "none")


def frechet_distance(features, reference, covariance="full"):
    """The Fréchet distance of two sets, each taken as a Gaussian; of Inception features it is the FID.

        |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))

    The last trace is the sum of the singular values of S1^(1/2) S2^(1/2), which stays exact for singular S1 and S2:
    fewer pictures than features give a biased number, but not a wrong one.

    Args:
        features: (N, D), N >= 2.
        reference: (M, D), M >= 2.
        covariance: `full`, unbiased; `diagonal`, the variances of the set itself alone; `none`, the means alone.

    Returns:
        float, 0 or more; symmetric in the sets.

    Raises:
        ValueError: The shapes do not fit, there are too few rows, or a value is not finite.

    Source: Heusel et al. 2017, equation 6, https://arxiv.org/abs/1706.08500; TF-GAN, classifier_metrics.py.
    """
    if covariance not in COVARIANCES:
        raise ValueError(f"`covariance` must be one of {COVARIANCES}. Received: {covariance=}.")
    features, reference = check_features(features, reference)
    means = float(np.sum((features.mean(axis=0) - reference.mean(axis=0)) ** 2))
    if covariance == "none":
        return means
    if covariance == "diagonal":
        first, second = features.var(axis=0), reference.var(axis=0)
        return means + float(np.sum((np.sqrt(first) - np.sqrt(second)) ** 2))
    if min(len(features), len(reference)) < features.shape[1]:
        return max(means + _trace_distance_of_few(features, reference), 0.0)
    first, second = (np.atleast_2d(np.cov(array, rowvar=False)) for array in (features, reference))
    return max(means + trace_distance(first, second), 0.0)


def frechet_distance_of_moments(first, second):
    """The Fréchet distance of two sets of which only mean and covariance are known; see `frechet_distance`.

    Args:
        first, second: `Moments` of two rows or more, or whatever has `mean` (D,) and `covariance` (D, D), float64.

    Returns:
        float, 0 or more.

    Raises:
        ValueError: The shapes do not fit, or a value is not finite.
    """
    if np.shape(first.covariance) != np.shape(second.covariance):
        raise ValueError(
            "`first` and `second` must have as many features. "
            f"Received: covariances of shapes {np.shape(first.covariance)} and {np.shape(second.covariance)}."
        )
    for moments in (first, second):
        if not (np.isfinite(moments.mean).all() and np.isfinite(moments.covariance).all()):
            raise ValueError("`first` and `second` must be finite. Received NaN or infinite values.")
    means = float(np.sum((np.asarray(first.mean) - second.mean) ** 2))
    return max(means + trace_distance(first.covariance, second.covariance), 0.0)


def _trace_distance_of_few(features, reference):
    """`trace_distance` of sets of which one has fewer rows than features.

    With S1 = A'A and S2 = B'B the eigenvalues of S1 S2 are the squared singular values of A B', a matrix that is as
    small as the sets.
    """
    first, second = ((rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1) for rows in (features, reference))
    across = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    return float((first**2).sum() + (second**2).sum() - 2 * across)


def trace_distance(first, second):
    """tr(S1 + S2 - 2 (S1 S2)^(1/2)) of two covariances.

    Args:
        first, second: (D, D) float64, symmetric and positive semi-definite up to rounding.

    Returns:
        float, 0 or more up to rounding.
    """
    product = _root(first) @ _root(second)
    return float(np.trace(first) + np.trace(second) - 2 * np.linalg.svd(product, compute_uv=False).sum())


def _root(covariance):
    values, vectors = np.linalg.eigh(covariance)
    # What rounding left of zero eigenvalues would come out of the root as large as 1e-8.
    noise = max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
    return (vectors * np.sqrt(np.where(values > noise, values, 0.0))) @ vectors.T


def kernel_distance(features, reference, block_size=1000):
    """The squared maximum mean discrepancy under k(x, y) = (x . y / D + 1)^3, unbiased; of Inception features the KID.

    Args:
        features: (N, D), N >= 2, in random order.
        reference: (M, D), M >= 2, in random order.
        block_size: Largest number of rows compared at a time; the sets are cut into ceil(max(N, M) / block_size)
            blocks of nearly equal size.

    Returns:
        (distance, standard error): floats, the mean over the blocks and its standard error, NaN with one block. The
        distance may be below 0, for it is unbiased.

    Raises:
        ValueError: The shapes do not fit, a block has fewer than two rows, or a value is not finite.

    Source: Binkowski et al. 2018, section 4, https://arxiv.org/abs/1801.01401; TF-GAN, classifier_metrics.py.
    """
    features, reference = check_features(features, reference, convert=False)
    blocks = -(-max(len(features), len(reference)) // block_size) if block_size >= 2 else 0
    if blocks < 1 or min(len(features), len(reference)) // blocks < 2:
        raise ValueError(
            "`block_size` must leave every block two rows or more of each set. "
            f"Received: {block_size=} for {len(features)} and {len(reference)} rows."
        )
    pairs = zip(_blocks(features, blocks), _blocks(reference, blocks))
    estimates = np.array([_discrepancy(first, second) for first, second in pairs])
    error = estimates.std(ddof=1) / np.sqrt(blocks) if blocks > 1 else float("nan")
    return float(estimates.mean()), float(error)


def _blocks(rows, count):
    # The last ones take the rows that do not divide.
    small, larger = len(rows) // count, len(rows) % count
    sizes = [small] * (count - larger) + [small + 1] * larger
    return np.split(rows, np.cumsum(sizes)[:-1])


def _discrepancy(first, second):
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)

    def mean_of_others(kernel):
        return (kernel.sum() - np.trace(kernel)) / (len(kernel) * (len(kernel) - 1))

    def kernel(a, b):
        return (a @ b.T / a.shape[1] + 1) ** 3

    across = kernel(first, second).mean()
    return mean_of_others(kernel(first, first)) + mean_of_others(kernel(second, second)) - 2 * across


def inception_score(probabilities, splits=10):
    """exp(mean over pictures of KL(p(y|x) || p(y))), p(y) the mean of p(y|x) over the split.

    Args:
        probabilities: (N, K), rows sum to 1, in random order.
        splits: int >= 1, parts of nearly equal size that are scored on their own.

    Returns:
        (mean, standard deviation) over the splits: floats; each score is from 1 to K.

    Raises:
        ValueError: There are fewer pictures than splits, or rows that are no probabilities.

    Source: Salimans et al. 2016, section 4, https://arxiv.org/abs/1606.03498.
    """
    probabilities = np.asarray(probabilities, np.float64)
    if probabilities.ndim != 2 or not 1 <= splits <= len(probabilities):
        raise ValueError(
            "`probabilities` must be (N, K) and `splits` in 1 .. N. "
            f"Received: shape {probabilities.shape}, {splits=}."
        )
    # Sums of a thousand float32 shares are off by 1e-4 at most. Not `any(wrong)`: NaN compares false.
    if not ((probabilities >= 0).all() and (abs(probabilities.sum(axis=1) - 1) < 1e-3).all()):
        raise ValueError("`probabilities` must have rows of shares that sum to 1. Received rows that do not.")
    parts = np.repeat(np.arange(splits), [len(part) for part in np.array_split(probabilities, splits)])
    sums = ScoreSums(parts, splits, probabilities.shape[1])
    sums.add(probabilities)
    return sums.score()


class ScoreSums:
    """What the Inception score needs of rows that come in batches.

    Args:
        parts: (N,) ints from 0, the part that each row is scored in.
        num_parts: int.
        num_classes: int, K.

    Attributes:
        sizes: (num_parts,) ints, rows of each part so far.
        totals: (num_parts, K) float64, sums of the probabilities p.
        entropies: (num_parts,) float64, sums of p log p.
    """

    def __init__(self, parts, num_parts, num_classes):
        self._parts, self.sizes = np.asarray(parts), np.zeros(num_parts, int)
        self.totals, self.entropies = np.zeros((num_parts, num_classes)), np.zeros(num_parts)

    def add(self, probabilities):
        """Takes the next rows.

        Args:
            probabilities: (n, K), rows sum to 1.
        """
        probabilities = np.asarray(probabilities, np.float64)
        done = self.sizes.sum()
        parts = self._parts[done : done + len(probabilities)]
        np.add.at(self.totals, parts, probabilities)
        entropies = (probabilities * np.log(np.where(probabilities > 0, probabilities, 1.0))).sum(axis=1)
        np.add.at(self.entropies, parts, entropies)
        np.add.at(self.sizes, parts, 1)

    def score(self):
        """Computes the score once all rows are there.

        Returns:
            (mean, standard deviation) over the parts: floats.
        """
        shares = np.where(self.totals > 0, self.totals, 1.0) / self.sizes[:, None]
        marginal = (self.totals * np.log(shares)).sum(axis=1)
        scores = np.exp((self.entropies - marginal) / self.sizes)
        return float(np.mean(scores)), float(np.std(scores))


def check_features(features, reference, convert=True):
    """Refuses sets that cannot be compared.

    Args:
        features, reference: Arrays.
        convert: bool. Make them float64; large sets are better left as they are.

    Returns:
        (features, reference): arrays (N, D) and (M, D).

    Raises:
        ValueError: The shapes do not fit, there are fewer than two rows, or a value is not finite.
    """
    features, reference = (np.asarray(rows, np.float64 if convert else None) for rows in (features, reference))
    shapes = features.ndim == reference.ndim == 2 and features.shape[1] == reference.shape[1]
    if not shapes or min(len(features), len(reference)) < 2:
        raise ValueError(
            "`features` and `reference` must be (N, D) and (M, D) with N and M >= 2. "
            f"Received: shapes {features.shape} and {reference.shape}."
        )
    if not (np.isfinite(features).all() and np.isfinite(reference).all()):
        raise ValueError("`features` and `reference` must be finite. Received NaN or infinite values.")
    return features, reference
