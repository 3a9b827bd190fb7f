"""Heat maps show the map's values on the scale of their legend, over an image that remains visible."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sagan_tf.viewing.heat_map import (
    OPACITY,
    STANDS_OUT,
    STOPS,
    add_caption,
    colors,
    largest_share,
    overlay,
    strongest_region,
)

GRAY = Image.new("RGB", (128, 128), (128, 128, 128))


@settings(max_examples=30)
@given(row=st.integers(0, 7), column=st.integers(0, 7), seed=st.integers(0, 99))
def test_strongest_region_contains_the_peak(row, column, seed):
    map_ = np.random.default_rng(seed).uniform(0, 0.01, (8, 8))
    map_[row, column] += 1
    y, x, contrast = strongest_region(map_)
    assert abs(y * 8 - row - 0.5) < 0.6 and abs(x * 8 - column - 0.5) < 0.6 and contrast > STANDS_OUT


def test_strongest_region_prefers_more_attention_to_a_higher_peak():
    map_ = np.zeros((8, 8))
    map_[0, 0], map_[4:7, 4:7] = 0.3, 0.7 / 9
    assert strongest_region(map_) == pytest.approx((5.5 / 8, 5.5 / 8, 0.7 * 64 / 9))


@pytest.mark.parametrize("side", [1, 2, 3, 4, 8, 32])
def test_strongest_region_stands_out_only_when_the_map_is_not_uniform(side):
    map_ = np.full((side, side), 1 / side**2)
    assert strongest_region(map_)[2] == pytest.approx(1)
    if side > 1:
        map_[0, side - 1] += 1
        assert strongest_region(map_)[2] > STANDS_OUT


def test_heat_map_gives_the_maximum_and_zero_the_ends_of_the_scale():
    map_ = np.zeros((4, 4))
    map_[1, 2], map_[3, 3] = 0.75, 0.25
    pixels = np.asarray(overlay(GRAY, map_)).astype(float)
    gray = pixels[16, 16]  # the center of a key without attention
    center = lambda row, column: pixels[32 * row + 16, 32 * column + 16]  # noqa: E731
    for key, level in (((1, 2), 1), ((3, 3), 1 / 3), ((2, 0), 0)):
        expected = gray + OPACITY * (colors(level) - STOPS[0])
        np.testing.assert_allclose(center(*key), expected, atol=16)  # keys are blended at their edges


def test_heat_map_leaves_the_image_visible_under_any_map():
    halves = np.zeros((32, 32, 3), np.uint8)
    halves[:, 16:] = 30  # a dark image
    for map_ in (np.eye(4), np.ones((4, 4)), np.zeros((4, 4))):
        levels = np.asarray(overlay(Image.fromarray(halves), map_)).astype(float).mean(-1)
        assert levels[:, 24:].mean() - levels[:, :8].mean() > 40


def test_legend_names_the_largest_share():
    map_ = np.full((4, 4), 0.05)
    map_[1, 1] = 0.25
    assert largest_share(map_) == "max 25%, 4.0 x uniform"
    assert largest_share(map_ * 7) == largest_share(map_)  # sums that are rounded


def test_caption_is_inside_the_image_when_it_is_narrow():
    picture = Image.new("RGB", (260, 40), (250, 250, 248))
    pixels = np.asarray(add_caption(picture, [(16, 16)], [(8, 8)]))
    assert (pixels[:, -8:] == pixels[0, 0]).all() and (pixels[-8:] == pixels[0, 0]).all()
    assert (pixels[50:] != pixels[0, 0]).any()
