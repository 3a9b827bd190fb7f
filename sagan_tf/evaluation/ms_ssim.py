"""MS-SSIM between images of a class: near 1 if a generator repeats the same image."""

import numpy as np
import tensorflow as tf

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, finest first, as published
_FILTER = 11  # px
_BATCH = 64


def num_scales(side):
    """The number of MS-SSIM scales, 0 to 5, at which the filter of 11 px fits into an image with this smaller side."""
    return sum(side >> scale >= _FILTER for scale in range(len(_WEIGHTS)))


def ms_ssim(first, second):
    """Computes the multi-scale structural similarity of pairs of images.

    With fewer than five scales, their published weights are scaled to the same sum; the numbers are then not
    comparable to those of five scales.

    Args:
        first, second: uint8 (N, H, W, C), N >= 1, H and W >= 11 px.

    Returns:
        (N,) float32, 1 for equal images.

    Raises:
        ValueError: The shapes differ or are not (N, H, W, C), or the images are smaller than 11 px.

    Source: Wang et al. 2003, https://doi.org/10.1109/ACSSC.2003.1292216; by `tf.image.ssim_multiscale`.
    """
    scales = num_scales(min(first.shape[1:3])) if first.ndim == 4 else 0
    if not scales or first.shape != second.shape:
        raise ValueError(
            f"`first` and `second` must be (N, H, W, C) with H and W >= {_FILTER}. "
            f"Received: shapes {first.shape} and {second.shape}."
        )
    weights = np.array(_WEIGHTS[:scales]) * (sum(_WEIGHTS) / sum(_WEIGHTS[:scales]))
    batches = [slice(start, start + _BATCH) for start in range(0, len(first), _BATCH)]
    similarities = [
        tf.image.ssim_multiscale(first[batch], second[batch], 255, power_factors=tuple(weights), filter_size=_FILTER)
        for batch in batches
    ]
    return tf.concat(similarities, axis=0).numpy()


def class_similarities(images, labels, pairs=100, seed=0):
    """Computes the mean MS-SSIM of random pairs of images within each class; lower is more diverse.

    Args:
        images: uint8 (N, H, W, C), H and W >= 11 px.
        labels: (N,) ints; None: all have label 0.
        pairs: int >= 1, per class; fewer where a class has fewer.
        seed: int >= 0, of the random pairs.

    Returns:
        dict, label -> float, for each class with two images or more.

    Raises:
        ValueError: As `ms_ssim`.

    Source: Odena et al. 2017, section 4.3, https://arxiv.org/abs/1610.09585.
    """
    labels = np.zeros(len(images), int) if labels is None else np.asarray(labels)
    rng, similarities = np.random.default_rng(seed), {}
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            continue
        all_pairs = np.stack(np.triu_indices(len(members), 1), axis=1)
        chosen = members[all_pairs[rng.permutation(len(all_pairs))[:pairs]]]
        similarities[int(label)] = float(ms_ssim(images[chosen[:, 0]], images[chosen[:, 1]]).mean())
    return similarities
