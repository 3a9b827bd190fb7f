"""Maps batches of uint8 images to [-1, 1], with random flips and dequantization."""

from __future__ import annotations

import tensorflow as tf

from sagan_tf.files.hashing import hash_seed

_NOISE_WIDTH = 1.0 - 2.0**-12  # Of a level: less than 1, so that rounding in float32 does not lead to the next one.


def to_float(images):
    """Maps grey levels 0 to 255 to float32 in [-1, 1]: 2 x / 255 - 1."""
    return tf.cast(images, tf.float32) * (2.0 / 255.0) - 1.0


def finish_batch(images, seed, step, *, flip=False, dequantize=False):
    """Prepares a batch for the networks; a pure function of its arguments.

    Args:
        images: uint8 tensor (B, H, W, C), the global batch.
        seed: int, the seed of the run.
        step: int64 scalar, the number of the batch.
        flip: bool. Mirror each image left to right with probability 1/2.
        dequantize: bool. Replace each level by a uniformly random value in [0, 255] that rounds to it.

    Returns:
        float32 tensor (B, H, W, C) in [-1, 1].
    """

    def draw(purpose, shape):
        key = tf.stack([tf.constant(hash_seed(seed, purpose), tf.int64), tf.cast(step, tf.int64)])
        return tf.random.stateless_uniform(shape, key, alg="philox")

    if flip:
        images = tf.where(draw("data flip", [tf.shape(images)[0], 1, 1, 1]) < 0.5, tf.reverse(images, [2]), images)
    if not dequantize:
        return to_float(images)
    noise = (draw("data noise", tf.shape(images)) - 0.5) * _NOISE_WIDTH
    # Mirrored at both ends: rounding in [0, 255] leaves the levels 0 and 255 only half of a cell.
    return to_float(255.0 - tf.abs(255.0 - tf.abs(tf.cast(images, tf.float32) + noise)))
