"""Synthetic attention maps."""

import numpy as np

from sagan_tf.viewing.attention import AttentionMaps


def make_maps(look_at, side=8, keys=4, pictures=2, channels=3, gamma=0.5, reach=1):
    """Maps in which every query looks at one key.

    Args:
        look_at: Function of (picture, row, column) that gives the key's (row, column), or None for all keys alike.
        side: int, height and width of the query grid.
        keys: int, of the key grid.
        pictures: int.
        channels: int, of the features, which are random.
        gamma: float.
        reach: int, keys that convolutions join a query's own with on either side.

    Returns:
        AttentionMaps.
    """
    scores = np.zeros((pictures, side, side, keys, keys), np.float32)
    for picture, row, column in np.ndindex(pictures, side, side):
        key = look_at(picture, row, column)
        if key is None:
            scores[picture, row, column] = 1 / keys**2
        else:
            scores[picture, row, column, key[0], key[1]] = 1
    features = np.random.default_rng(0).standard_normal((pictures, side, side, channels), np.float32)
    own = np.arange(side) * keys // side
    field = abs(own[:, None] - np.arange(keys)) <= reach
    flat = scores.reshape(pictures, side * side, keys * keys)
    return AttentionMaps(f"attention_{side}", flat, features, (keys, keys), gamma, (field, field))
