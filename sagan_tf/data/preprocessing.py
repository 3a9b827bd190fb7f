"""Maps batches of uint8 images to [-1, 1], with random flips and dequantization."""

from __future__ import annotations

import tensorflow as tf

_FLIP_STREAM, _NOISE_STREAM = 1, 2  # Folded into the key of a step to make its random draws independent.


def to_float(images):
    """Maps grey levels 0 to 255 to float32 in [-1, 1]: 2 x / 255 - 1."""
    return tf.cast(images, tf.float32) * (2.0 / 255.0) - 1.0


def finish_batch(images, seed, step, *, flip=False, dequantize=False):
    """Prepares a batch for the networks; a pure function of its arguments.

    Args:
        images: uint8 tensor (B, H, W, C), the global batch.
        seed: int64 scalar, the seed of the run.
        step: int64 scalar, the number of the batch.
        flip: bool. Mirror each image left to right with probability 1/2.
        dequantize: bool. Add noise u from U[0, 1) to each level: (x + u) / 128 - 1.

    Returns:
        float32 tensor (B, H, W, C) in [-1, 1].
    """
    key = tf.stack([tf.cast(seed, tf.int64), tf.cast(step, tf.int64)])
    if flip:
        images = _flip_randomly(images, tf.random.experimental.stateless_fold_in(key, _FLIP_STREAM))
    if not dequantize:
        return to_float(images)
    noise = tf.random.stateless_uniform(
        tf.shape(images), tf.random.experimental.stateless_fold_in(key, _NOISE_STREAM), alg="philox"
    )
    return (tf.cast(images, tf.float32) + noise) / 128.0 - 1.0


def _flip_randomly(images, key):
    chosen = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], key, alg="philox") < 0.5
    return tf.where(chosen, tf.reverse(images, [2]), images)
