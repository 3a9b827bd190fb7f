"""Conversions between images in [-1, 1] and 8-bit levels."""

import numpy as np
import tensorflow as tf


def to_levels(images):
    """Maps images from [-1, 1] to uint8, rounded and clipped; uint8 passes through.

    A tensor gives a tensor, also inside a graph; all else gives a NumPy array.
    """
    if tf.is_tensor(images):
        if images.dtype == tf.uint8:
            return images
        levels = tf.round((tf.cast(images, tf.float32) + 1.0) * 127.5)
        return tf.cast(tf.clip_by_value(levels, 0.0, 255.0), tf.uint8)
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    return np.clip(np.rint((images.astype(np.float32) + 1.0) * 127.5), 0, 255).astype(np.uint8)


def from_levels(levels):
    """Maps 8-bit levels to [-1, 1]: a NumPy array, float32."""
    return np.float32(levels) / 127.5 - 1


def to_png(images):
    """Encodes images (B, H, W, 1 or 3) in [-1, 1] as PNG files: (B,) strings."""
    return tf.io.encode_png(to_levels(images))
