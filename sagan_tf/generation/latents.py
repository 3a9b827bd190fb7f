"""Latents: from seeds, inside a graph, the same for a seed on every machine and in every batch; or just many."""

import numpy as np
import tensorflow as tf


def random_batches(latent_dim, num_classes, count, rows, seed):
    """Yields `count` batches: [latent (rows, D) float32, label (rows,) int32 below `num_classes`].

    Labels are uniform; without classes (None) there are none. For statistics over many images, which need no seed each.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, 2]))
    for _ in range(count):
        latent = rng.standard_normal((rows, latent_dim), dtype=np.float32)
        yield [latent] if num_classes is None else [latent, rng.integers(num_classes, size=rows, dtype=np.int32)]


def draw_latents(seed, truncation, latent_dim):
    """Draws the latent of each seed from the normal distribution, cut off at `truncation`.

    Each row comes from its own seed by the Philox generator and the inverse distribution function, in float64, so that
    it does not depend on the rest of the batch. It is the exact truncated distribution,

        z = sqrt(2) erfinv((2 u - 1) erf(t / sqrt(2))),    u uniform in (0, 1),

    with z continuous and monotonic in t: a lower t moves an image and does not draw another one.

    Args:
        seed: (B,) int64.
        truncation: (B,) float32 > 0, the largest absolute value of an entry.
        latent_dim: int, D.

    Returns:
        (B, D) float32.

    Source: truncation of latents, BigGAN (Brock et al. 2019), section 3.1.
    """

    def uniform(row_seed):
        # The algorithm by name: the default differs between devices.
        pair = tf.stack([row_seed, tf.zeros_like(row_seed)])
        return tf.random.stateless_uniform([latent_dim], pair, dtype=tf.float64, alg="philox")

    u = tf.map_fn(uniform, seed, fn_output_signature=tf.TensorSpec([latent_dim], tf.float64))
    threshold = tf.cast(truncation, tf.float64)[:, None]
    # Half a step up: u can be 0, which would give minus infinity.
    centered = 2.0 * (u + 2.0**-53) - 1.0
    z = 2.0**0.5 * tf.math.erfinv(centered * tf.math.erf(threshold / 2.0**0.5))
    return tf.cast(tf.clip_by_value(z, -threshold, threshold), tf.float32)


def interpolate_latents(start, end, fraction):
    """Interpolates between latents on a great circle; both ends are reached exactly.

    A straight line would lead through latents shorter than any that the generator was trained on.

    Args:
        start, end: (B, D) float32.
        fraction: (B,) float32 in [0, 1].

    Returns:
        (B, D) float32.

    Source: White 2016, https://arxiv.org/abs/1609.04468.
    """
    unit_start, unit_end = tf.math.l2_normalize(start, -1), tf.math.l2_normalize(end, -1)
    cosine = tf.reduce_sum(unit_start * unit_end, -1, keepdims=True)
    angle = tf.acos(tf.clip_by_value(cosine, -1.0, 1.0))
    fraction = fraction[:, None]
    parallel = tf.sin(angle) < 1e-4  # There is no circle between parallel latents; a straight line does as well.
    sine = tf.where(parallel, 1.0, tf.sin(angle))
    start_weight = tf.where(parallel, 1.0 - fraction, tf.sin((1.0 - fraction) * angle) / sine)
    end_weight = tf.where(parallel, fraction, tf.sin(fraction * angle) / sine)
    return start_weight * start + end_weight * end


def interpolate_rows(start, end, fraction):
    """Interpolates linearly between class rows (B, R); `fraction` (B,) in [0, 1], both ends are reached exactly."""
    return (1.0 - fraction)[:, None] * start + fraction[:, None] * end
