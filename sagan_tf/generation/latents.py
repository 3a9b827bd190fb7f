"""Latents from seeds, inside a graph: the same numbers for a seed on every machine and in every batch."""

import tensorflow as tf


def draw_latents(seed, truncation, latent_dim):
    """Draws a latent for each seed from the normal distribution, cut off at `truncation`.

    Each row comes from its own seed by the Philox generator and the inverse distribution function, in float64, so that
    it does not depend on the rest of the batch. It is the exact truncated distribution,

        z = sqrt(2) erfinv((2 u - 1) erf(t / sqrt(2))),    u uniform in (0, 1),

    with z continuous and monotonic in t: turning t moves a picture, and does not draw another. t >= 6 is in effect the
    whole normal distribution, which the generator was trained on.

    Args:
        seed: (B,) int64.
        truncation: (B,) float32 > 0, the largest absolute value of an entry.
        latent_dim: int, D.

    Returns:
        (B, D) float32.

    Source: truncation of latents, BigGAN (Brock et al. 2019), section 3.1.
    """

    def uniform(row_seed):
        # The algorithm by name: by default it would differ between devices.
        pair = tf.stack([row_seed, tf.zeros_like(row_seed)])
        return tf.random.stateless_uniform([latent_dim], pair, dtype=tf.float64, alg="philox")

    u = tf.map_fn(uniform, seed, fn_output_signature=tf.TensorSpec([latent_dim], tf.float64))
    threshold = tf.cast(truncation, tf.float64)[:, None]
    # Half a step up: u starts at 0, and 0 would be minus infinity.
    centred = 2.0 * (u + 2.0**-53) - 1.0
    z = 2.0**0.5 * tf.math.erfinv(centred * tf.math.erf(threshold / 2.0**0.5))
    return tf.cast(tf.clip_by_value(z, -threshold, threshold), tf.float32)


def interpolate_latents(start, end, fraction):
    """Goes from one latent to another on a great circle.

    On the straight line between them a latent would be shorter than any the generator was trained on. Both ends are
    reached exactly.

    Args:
        start: (B, D) float32.
        end: (B, D) float32.
        fraction: (B,) float32 in [0, 1]; 0 is `start`.

    Returns:
        (B, D) float32.

    Source: White 2016, https://arxiv.org/abs/1609.04468.
    """
    unit_start, unit_end = tf.math.l2_normalize(start, -1), tf.math.l2_normalize(end, -1)
    cosine = tf.reduce_sum(unit_start * unit_end, -1, keepdims=True)
    angle = tf.acos(tf.clip_by_value(cosine, -1.0, 1.0))
    fraction = fraction[:, None]
    parallel = tf.sin(angle) < 1e-4  # The two are one direction: there is no circle, and the line is as good.
    sine = tf.where(parallel, 1.0, tf.sin(angle))
    start_weight = tf.where(parallel, 1.0 - fraction, tf.sin((1.0 - fraction) * angle) / sine)
    end_weight = tf.where(parallel, fraction, tf.sin(fraction * angle) / sine)
    return start_weight * start + end_weight * end


def interpolate_rows(start, end, fraction):
    """Goes straight from one row to another, reaching both ends exactly.

    Args:
        start: (B, R) float32.
        end: (B, R) float32.
        fraction: (B,) float32 in [0, 1].

    Returns:
        (B, R) float32.
    """
    return (1.0 - fraction)[:, None] * start + fraction[:, None] * end


def to_png(image):
    """Packs images as PNG files.

    Args:
        image: (B, S, S, C) float32 in [-1, 1], C 1 or 3.

    Returns:
        (B,) string.
    """
    levels = tf.cast(tf.clip_by_value(tf.round((image + 1.0) * 127.5), 0.0, 255.0), tf.uint8)
    return tf.io.encode_png(levels)
