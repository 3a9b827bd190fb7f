"""Fréchet distance and kernel distance between sets of features; NumPy in float64.

Symbols: N, M images, D features.
"""

import numpy as np
from numpy.typing import ArrayLike

from sagan_tf.evaluation.moments import Moments

COVARIANCES = ("full", "diagonal", "none")
INFINITY_POINTS = 15  # random subsets, whose distances are extrapolated to infinitely many samples


def frechet_distance(features: ArrayLike, reference: ArrayLike, covariance: str = "full") -> float:
    """Computes the Fréchet distance between Gaussians fitted to two sets; with Inception's features it is the FID.

        |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))

    The last trace is the sum of the singular values of S1^(1/2) S2^(1/2), which is exact for singular S1 and S2 too:
    with fewer images than features the distance is biased but not wrong.

    Args:
        features: (N, D), N >= 2.
        reference: (M, D), M >= 2.
        covariance: `full`, unbiased; `diagonal`, the variances of the set; `none`, the means alone.

    Returns:
        float, 0 or more; symmetric in the sets.

    Raises:
        ValueError: The shapes do not match, there are too few rows, or a value is not finite.

    Source: Heusel et al. 2017, equation 6, https://arxiv.org/abs/1706.08500; TF-GAN, classifier_metrics.py.
    """
    if covariance not in COVARIANCES:
        raise ValueError(f"`covariance` must be one of {COVARIANCES}. Received: {covariance=}.")
    first, second = check_features(features, reference)
    means = float(np.sum((first.mean(axis=0) - second.mean(axis=0)) ** 2))
    if covariance == "none":
        return means
    if covariance == "diagonal":
        return means + float(np.sum((first.std(axis=0) - second.std(axis=0)) ** 2))
    if min(len(first), len(second)) < first.shape[1]:
        return max(means + _trace_distance_of_few(first, second), 0.0)
    covariances = (np.atleast_2d(np.cov(array, rowvar=False)) for array in (first, second))
    return max(means + trace_distance(*covariances), 0.0)


def frechet_distance_of_moments(first, second):
    """Computes `frechet_distance` from means and covariances.

    Args:
        first, second: Objects with `mean` (D,) and `covariance` (D, D), float64, such as `Moments`.

    Returns:
        float, 0 or more.

    Raises:
        ValueError: They have different numbers of features, `Moments` have fewer than two rows, or a value is not
            finite.
    """
    if np.shape(first.covariance) != np.shape(second.covariance):
        raise ValueError(
            "`first` and `second` must have the same number of features. "
            f"Received: covariances of shapes {np.shape(first.covariance)} and {np.shape(second.covariance)}."
        )
    for moments in (first, second):
        if not (np.isfinite(moments.mean).all() and np.isfinite(moments.covariance).all()):
            raise ValueError("`first` and `second` must be finite. Received NaN or infinite values.")
    means = float(np.sum((np.asarray(first.mean) - second.mean) ** 2))
    return max(means + trace_distance(first.covariance, second.covariance), 0.0)


def frechet_distance_at_infinity(features, reference, least=5000):
    """Extrapolates the Fréchet distance to infinitely many samples.

    The bias of the distance of n samples is roughly proportional to 1/n: a line is fitted to the distances of random
    subsets, of `least` to N samples, against 1/n and evaluated at 0.

    Args:
        features: Array (N, D), N >= 30.
        reference: `Moments` of the data.
        least: int >= 2, samples of the smallest subset; N // 2 at most.

    Returns:
        (distance, list of (samples, distance) of the subsets); the distance can be negative.

    Raises:
        ValueError: There are too few rows, the numbers of features differ, or a value is not finite.

    Source: Chong and Forsyth 2020, section 4, https://arxiv.org/abs/1911.07023.
    """
    if len(features) < 2 * INFINITY_POINTS:
        raise ValueError(f"`features` must have {2 * INFINITY_POINTS} rows or more. Received: {len(features)}.")
    rng, subsets = np.random.default_rng(0), []
    for size in np.linspace(min(least, len(features) // 2), len(features), INFINITY_POINTS).astype(int):
        chosen = np.sort(rng.permutation(len(features))[:size])
        subsets.append((int(size), frechet_distance_of_moments(Moments.of(features[chosen]), reference)))
    sizes, distances = np.array(subsets).T
    _, at_zero = np.polyfit(1 / sizes, distances, 1)
    return float(at_zero), subsets


def _trace_distance_of_few(features, reference):
    """`trace_distance` if a set has fewer rows than features."""
    # With S1 = A'A and S2 = B'B, the eigenvalues of S1 S2 are the squared singular values of the smaller matrix A B'.
    first, second = ((rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1) for rows in (features, reference))
    across = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    return float((first**2).sum() + (second**2).sum() - 2 * across)


def trace_distance(first, second):
    """Computes tr(S1 + S2 - 2 (S1 S2)^(1/2)) of covariances (D, D), float64 and positive semi-definite: float."""
    product = _root(first) @ _root(second)
    return float(np.trace(first) + np.trace(second) - 2 * np.linalg.svd(product, compute_uv=False).sum())


def _root(covariance):
    values, vectors = np.linalg.eigh(covariance)
    # The root would turn zero eigenvalues that rounding made 1e-16 into 1e-8.
    noise = max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
    return (vectors * np.sqrt(np.where(values > noise, values, 0.0))) @ vectors.T


def kernel_distance(
    features: ArrayLike, reference: ArrayLike, block_size: int = 1000, seed: int | None = 0
) -> tuple[float, float]:
    """Computes the squared maximum mean discrepancy, unbiased, under the kernel k(x, y) = (x . y / D + 1)^3.

    With Inception's features it is the KID.

    Args:
        features: (N, D), N >= 2.
        reference: (M, D), M >= 2.
        block_size: int, rows per block at most; the sets are split into ceil(max(N, M) / block_size) blocks of nearly
            equal size.
        seed: int, of the random order in which both sets are split into blocks; None keeps their own, which must then
            be random.

    Returns:
        (distance, standard error) of floats, the mean over the blocks and its standard error, NaN with one block. The
        unbiased distance can be negative.

    Raises:
        ValueError: The shapes do not match, a block has fewer than two rows, or a value is not finite.

    Source: Binkowski et al. 2018, section 4, https://arxiv.org/abs/1801.01401; TF-GAN, classifier_metrics.py.
    """
    first, second = check_features(features, reference, convert=False)
    blocks = -(-max(len(first), len(second)) // block_size) if block_size >= 2 else 0
    if blocks < 1 or min(len(first), len(second)) // blocks < 2:
        raise ValueError(
            "`block_size` must leave two rows or more of each set in every block. "
            f"Received: {block_size=} for {len(first)} and {len(second)} rows."
        )
    # Sets often come class by class, and blocks of different classes are far apart.
    rng = None if seed is None else np.random.default_rng(seed)
    pairs = zip(*(_blocks(len(rows), blocks, rng) for rows in (first, second)))
    estimates = np.array([_discrepancy(first[rows], second[others]) for rows, others in pairs])
    error = estimates.std(ddof=1) / np.sqrt(blocks) if blocks > 1 else float("nan")
    return float(estimates.mean()), float(error)


def _blocks(rows, count, rng):
    """Splits the indices of `rows` rows into `count` blocks."""
    # The last blocks take the remainder.
    small, larger = rows // count, rows % count
    sizes = [small] * (count - larger) + [small + 1] * larger
    return np.split(np.arange(rows) if rng is None else rng.permutation(rows), np.cumsum(sizes)[:-1])


def _discrepancy(first, second):
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)

    def mean_of_others(kernel):
        return (kernel.sum() - np.trace(kernel)) / (len(kernel) * (len(kernel) - 1))

    def kernel(a, b):
        return (a @ b.T / a.shape[1] + 1) ** 3

    across = kernel(first, second).mean()
    return mean_of_others(kernel(first, first)) + mean_of_others(kernel(second, second)) - 2 * across


def check_features(features, reference, convert=True, least=2):
    """Returns both sets as arrays, float64 if `convert`; ValueError if they cannot be compared or one lacks rows."""
    features, reference = (np.asarray(rows, np.float64 if convert else None) for rows in (features, reference))
    shapes = features.ndim == reference.ndim == 2 and features.shape[1] == reference.shape[1]
    if not shapes or min(len(features), len(reference)) < least:
        raise ValueError(
            f"`features` and `reference` must be (N, D) and (M, D) with N and M >= {least}. "
            f"Received: shapes {features.shape} and {reference.shape}."
        )
    if not (np.isfinite(features).all() and np.isfinite(reference).all()):
        raise ValueError("`features` and `reference` must be finite. Received NaN or infinite values.")
    return features, reference
