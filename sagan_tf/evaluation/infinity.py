"""The Fréchet distance that infinitely many samples would have; NumPy."""

import numpy as np

from sagan_tf.evaluation.distances import frechet_distance_of_moments
from sagan_tf.evaluation.moments import Moments


def frechet_distance_at_infinity(features, reference, least=5000, points=15, seed=0):
    """Extrapolates the Fréchet distance to infinitely many samples.

    The distance of n samples is biased by about a constant over n: a line through distances of random subsets, against
    1/n, is read at 0.

    Args:
        features: (N, D), N >= 2 * points.
        reference: `Moments` of the data.
        least: int, samples of the smallest subset; at most half of N are taken for it.
        points: int >= 2, subsets.
        seed: int, of the subsets.

    Returns:
        (distance, list of (samples, distance) of the subsets).

    Raises:
        ValueError: There are too few rows or points.

    Source: Chong and Forsyth 2020, section 4, https://arxiv.org/abs/1911.07023.
    """
    if points < 2 or len(features) < 2 * points:
        raise ValueError(f"`points` must be 2 or more, with twice as many rows. Received: {points=}, {len(features)}.")
    rng, found = np.random.default_rng(seed), []
    for size in np.linspace(min(least, len(features) // 2), len(features), points).astype(int):
        chosen = np.sort(rng.permutation(len(features))[:size])
        found.append((int(size), frechet_distance_of_moments(Moments.of(features[chosen]), reference)))
    sizes, distances = np.array(found).T
    _, at_zero = np.polyfit(1 / sizes, distances, 1)
    return float(at_zero), found
