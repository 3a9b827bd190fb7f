"""Pixel values: images in [-1, 1] to 8-bit levels."""

import numpy as np


def to_levels(images):
    """Maps pictures to grey levels.

    Args:
        images: uint8 0..255, or floating point in [-1, 1]; any shape.

    Returns:
        uint8 array of that shape, rounded and clipped.
    """
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    return np.clip(np.rint((images.astype(np.float32) + 1.0) * 127.5), 0, 255).astype(np.uint8)
