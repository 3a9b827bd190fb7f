"""Query points are on the parts of an image, and not on a grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagan_tf.data import embedded
from sagan_tf.viewing.query_points import choose_points


def scene(parts, side=16, seed=0):
    """A flat background with parts of other features: (features, image, part of each position or -1)."""
    rng = np.random.default_rng(seed)
    features = 0.05 * rng.standard_normal((side, side, 6))
    which = np.full((side, side), -1)
    for k, (row, column, size) in enumerate(parts):
        area = (slice(row, row + size), slice(column, column + size))
        which[area] = k
        features[area] += np.eye(6)[k] * 3
    return features, np.zeros((2 * side, 2 * side, 3)), which


def test_choose_points_covers_every_part():
    parts = [(2, 2, 4), (2, 10, 4), (9, 1, 5), (10, 10, 4)]
    features, image, which = scene(parts)
    chosen = [which[point] for point in choose_points(features, image, 5)]
    assert {0, 1, 2, 3} <= set(chosen)


def test_choose_points_stays_inside_the_parts():
    features, image, which = scene([(4, 4, 7)])
    row, column = choose_points(features, image, 2)[0]
    assert (which[row - 1 : row + 2, column - 1 : column + 2] == 0).all()


@pytest.mark.parametrize("name", embedded.NAMES)
def test_choose_points_hits_the_shapes_of_embedded_images(name):
    images, _ = embedded.render(name, range(40))
    rng = np.random.default_rng(0)
    on = []
    for image in images:
        # With features of an untrained layer the image decides.
        features = rng.standard_normal((16, 16, 8))
        bright = image.astype(float).reshape(16, 2, 16, 2, 3).mean((1, 3))
        contrast = abs(bright - np.median(bright, axis=(0, 1))).sum(-1)
        shape = contrast > 60
        on.append(
            np.mean(
                [shape[max(0, r - 1) : r + 2, max(0, c - 1) : c + 2].any() for r, c in choose_points(features, image)]
            )
        )
    assert np.mean(on) > 0.7


@settings(max_examples=40)
@given(seed=st.integers(0, 999), side=st.sampled_from([4, 8, 16]), count=st.integers(1, 8), flat=st.booleans())
def test_choose_points_returns_distinct_positions(seed, side, count, flat):
    rng = np.random.default_rng(seed)
    features = np.zeros((side, side, 3)) if flat else rng.standard_normal((side, side, 3))
    image = np.zeros((32, 32, 1)) if flat else rng.standard_normal((32, 32, 1))
    points = choose_points(features, image, count)
    assert len(set(points)) == count and all(0 <= r < side and 0 <= c < side for r, c in points)
    assert points == choose_points(features, image, count)


def test_choose_points_rejects_more_points_than_positions():
    with pytest.raises(ValueError, match="Received: count=17"):
        choose_points(np.zeros((4, 4, 2)), np.zeros((4, 4, 3)), 17)
