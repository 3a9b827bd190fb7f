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
    features, reference = _checked(features, reference)
    means = float(np.sum((features.mean(axis=0) - reference.mean(axis=0)) ** 2))
    if covariance == "none":
        return means
    if covariance == "diagonal":
        first, second = features.var(axis=0), reference.var(axis=0)
        return means + float(np.sum((np.sqrt(first) - np.sqrt(second)) ** 2))
    first, second = (np.atleast_2d(np.cov(array, rowvar=False)) for array in (features, reference))
    return max(means + trace_distance(first, second), 0.0)


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
    features, reference = _checked(features, reference)
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
    scores = [_score(part) for part in np.array_split(probabilities, splits)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(probabilities):
    marginal = probabilities.mean(axis=0)
    ratio = np.divide(probabilities, marginal, out=np.ones_like(probabilities), where=probabilities > 0)
    return np.exp((probabilities * np.log(ratio)).sum(axis=1).mean())


def _checked(features, reference):
    features, reference = np.asarray(features, np.float64), np.asarray(reference, np.float64)
    shapes = features.ndim == reference.ndim == 2 and features.shape[1] == reference.shape[1]
    if not shapes or min(len(features), len(reference)) < 2:
        raise ValueError(
            "`features` and `reference` must be (N, D) and (M, D) with N and M >= 2. "
            f"Received: shapes {features.shape} and {reference.shape}."
        )
    if not (np.isfinite(features).all() and np.isfinite(reference).all()):
        raise ValueError("`features` and `reference` must be finite. Received NaN or infinite values.")
    return features, reference
