"""Images of one color each."""

import numpy as np


def plain_images(rows, columns, size=8, seed=0):
    """(rows, columns, size, size, 3) uint8; no two images have the same color."""
    levels = np.random.default_rng(seed).permutation(256)[: rows * columns * 3].astype(np.uint8)
    return np.broadcast_to(levels.reshape(rows, columns, 1, 1, 3), (rows, columns, size, size, 3))
