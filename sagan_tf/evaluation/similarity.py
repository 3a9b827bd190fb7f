"""MS-SSIM between pictures of a class: near 1 where a generator paints the same picture again and again."""

import numpy as np
import tensorflow as tf

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Of the scales, finest first, as published.
_FILTER = 11  # px
_PAIRS_AT_ONCE = 64


def scales_that_fit(image_size):
    """Finds how many scales of MS-SSIM a picture is large enough for.

    Args:
        image_size: int, px.

    Returns:
        int, 0 to 5: the filter of 11 px fits into the last of them.
    """
    fitting = [s for s in range(1, len(_WEIGHTS) + 1) if image_size >> (s - 1) >= _FILTER]
    return len(fitting)


def ms_ssim(first, second):
    """Multi-scale structural similarity of pairs, with as many of the five scales as fit.

    Args:
        first, second: uint8 (N, S, S, C), S >= 11.

    Returns:
        (N,) float32, at most 1; 1 for equal pictures. Below five scales the published weights of those that are left
        are scaled to the same sum, and numbers are not comparable to those of five.

    Raises:
        ValueError: The shapes do not fit, or the pictures are too small.

    Source: Wang et al. 2003, https://doi.org/10.1109/ACSSC.2003.1292216; by `tf.image.ssim_multiscale`.
    """
    scales = scales_that_fit(first.shape[1]) if first.ndim == 4 else 0
    if not scales or first.shape != second.shape:
        raise ValueError(
            f"`first` and `second` must be (N, S, S, C) with S >= {_FILTER}. "
            f"Received: shapes {first.shape} and {second.shape}."
        )
    weights = np.array(_WEIGHTS[:scales]) * (sum(_WEIGHTS) / sum(_WEIGHTS[:scales]))
    starts = range(0, len(first), _PAIRS_AT_ONCE)
    parts = [slice(start, start + _PAIRS_AT_ONCE) for start in starts]
    found = [
        tf.image.ssim_multiscale(first[part], second[part], 255, power_factors=tuple(weights), filter_size=_FILTER)
        for part in parts
    ]
    return tf.concat(found, axis=0).numpy()


def class_similarities(images, labels, pairs=100, seed=0):
    """Mean MS-SSIM of random pairs within each class; low is varied.

    Args:
        images: uint8 (N, S, S, C).
        labels: (N,) ints, or None: all are one class.
        pairs: int >= 1, pairs a class at most.
        seed: int, of the pairs.

    Returns:
        dict, label (0 without labels) -> float, for each class of two pictures or more.

    Source: Odena et al. 2017, section 4.3, https://arxiv.org/abs/1610.09585.
    """
    labels = np.zeros(len(images), int) if labels is None else np.asarray(labels)
    rng, found = np.random.default_rng(seed), {}
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            continue
        all_pairs = np.stack(np.triu_indices(len(members), 1), axis=1)
        chosen = members[all_pairs[rng.permutation(len(all_pairs))[:pairs]]]
        found[int(label)] = float(ms_ssim(images[chosen[:, 0]], images[chosen[:, 1]]).mean())
    return found
