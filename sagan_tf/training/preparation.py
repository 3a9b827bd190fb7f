"""Maps batches of uint8 images to [-1, 1], with random flips and dequantization, on the device of the step."""

import math

import tensorflow as tf

_NOISE_WIDTH = 1.0 - 2.0**-12  # Of a level: less than 1, so that rounding in float32 does not lead to the next one.


def to_float(images):
    """Maps gray levels 0 to 255 to float32 in [-1, 1]: 2 x / 255 - 1."""
    return tf.cast(images, tf.float32) * (2.0 / 255.0) - 1.0


def prepare_images(images, randomness, *, flip=False, dequantize=False):
    """Prepares a replica's part of a batch for the networks; a pure function of its arguments.

    Args:
        images: uint8 tensor (B, H, W, C).
        randomness: `StepRandomness`.
        flip: bool. Mirror each image left to right with probability 1/2.
        dequantize: bool. Replace each level by a uniformly random value in [0, 255] that rounds to it.

    Returns:
        float32 tensor (B, H, W, C) in [-1, 1].
    """
    rows, *size = tf.shape(images)[0], *images.shape[1:]
    images = tf.cast(images, tf.float32)  # GPUs lack some operations of uint8
    if flip:
        is_flipped = randomness.uniform("data flip", rows, 1)[:, :, None, None] < 0.5
        images = tf.where(is_flipped, tf.reverse(images, [2]), images)
    if not dequantize:
        return to_float(images)
    noise = tf.reshape(randomness.uniform("data noise", rows, math.prod(size)), (-1, *size))
    # Mirrored at both ends: rounding in [0, 255] leaves the levels 0 and 255 only half of a cell.
    return to_float(255.0 - tf.abs(255.0 - tf.abs(images + (noise - 0.5) * _NOISE_WIDTH)))
