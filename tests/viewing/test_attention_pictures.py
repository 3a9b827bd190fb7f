"""Rows show the map of every point and mark the region with the most attention."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from viewing.maps import make_maps

from sagan_tf.viewing.attention_pictures import COLOURS, draw_rows, make_row, overlay, save_rows, strongest_region

GREY = np.full((32, 32, 3), 128, np.uint8)


@settings(max_examples=30, deadline=None)
@given(row=st.integers(0, 7), column=st.integers(0, 7), seed=st.integers(0, 99))
def test_strongest_region_contains_the_peak(row, column, seed):
    map_ = np.random.default_rng(seed).uniform(0, 0.01, (8, 8))
    map_[row, column] += 1
    y, x = strongest_region(map_)
    assert abs(y * 8 - row - 0.5) < 0.6 and abs(x * 8 - column - 0.5) < 0.6


def test_strongest_region_prefers_more_attention_to_a_higher_peak():
    map_ = np.zeros((8, 8))
    map_[0, 0], map_[4:7, 4:7] = 0.3, 0.7 / 9
    assert strongest_region(map_) == pytest.approx((5.5 / 8, 5.5 / 8))


def test_attention_overlay_is_bright_where_attention_is():
    map_ = np.zeros((4, 4))
    map_[1, 2] = 1
    levels = np.asarray(overlay(GREY, map_, 128)).mean(-1)
    cells = levels.reshape(4, 32, 4, 32).mean((1, 3))
    assert np.unravel_index(cells.argmax(), (4, 4)) == (1, 2) and cells[1, 2] > 1.5 * np.median(cells)


def test_attention_row_shows_map_and_colour_of_each_point(tmp_path):
    # Each query attends to its point reflection through the centre.
    maps = make_maps(lambda picture, row, column: (3 - row // 2, 3 - column // 2), pictures=1)
    points = [(0, 0), (0, 7), (7, 0)]
    row = make_row(maps, 0, GREY, points, "one")
    save_rows([row], tmp_path / "new" / "rows.png", "title")
    with Image.open(tmp_path / "new" / "rows.png") as file:
        pixels = np.asarray(file).astype(int)
    for k, colour in enumerate(COLOURS[:3]):
        spots = np.argwhere((pixels == colour).all(-1))
        # The first cell has the dot, cell k + 1 the dot and an arrow.
        cells = set((spots[:, 1] - 16) // 164)
        assert cells == {0, k + 1}
        arrow = spots[(spots[:, 1] - 16) // 164 == k + 1] - [pixels.shape[0] - 16 - 160, 16 + 4 + (k + 1) * 164]
        y, x = (arrow / 160).mean(0)
        start, end = np.array(points[k]) / 8 + 1 / 16, 1 - np.array(points[k]) / 8 - 1 / 16
        assert np.abs((y, x) - (start + end) / 2).max() < 0.2
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["rows.png"]


def test_attention_row_marks_point_that_attends_to_itself_by_ring():
    maps = make_maps(lambda picture, row, column: (row // 2, column // 2), pictures=1)
    picture = np.asarray(draw_rows([make_row(maps, 0, GREY, [(4, 4)])], "title")).astype(int)
    spots = np.argwhere((picture[:, 16 + 168 :] == COLOURS[0]).all(-1))
    assert np.ptp(spots, axis=0).max() < 32  # no arrow


def test_attention_rows_are_drawn_for_columns_and_large_grey_images():
    maps = make_maps(lambda *_: None, pictures=3)
    rows = [make_row(maps, i, np.zeros((256, 256, 1), np.float32), [(1, 1), (2, 6)]) for i in range(3)]
    narrow, wide = draw_rows(rows, "t"), draw_rows(rows, "t", columns=2)
    assert wide.width > 1.9 * (narrow.width - 32) and narrow.height > wide.height > 2 * 256
