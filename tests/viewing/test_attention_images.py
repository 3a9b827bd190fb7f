"""Rows show the map of every point and mark the region with the most attention."""

import numpy as np
from PIL import Image
from viewing.maps import make_maps

from sagan_tf.viewing.attention_images import COLORS, draw_rows, make_row, save_rows

GRAY = np.full((32, 32, 3), 128, np.uint8)


def test_attention_row_shows_map_and_color_of_each_point(tmp_path):
    # Each query attends to its point reflection through the center.
    maps = make_maps(lambda picture, row, column: (3 - row // 2, 3 - column // 2), pictures=1)
    points = [(0, 0), (0, 7), (7, 0)]
    row = make_row(maps, 0, GRAY, points, "one")
    save_rows([row], tmp_path / "new" / "rows.png", "title")
    with Image.open(tmp_path / "new" / "rows.png") as file:
        pixels = np.asarray(file).astype(int)
    for k, color in enumerate(COLORS[:3]):
        spots = np.argwhere((pixels == color).all(-1))
        # The first cell has the dot, cell k + 1 the dot and an arrow.
        cells = set((spots[:, 1] - 16) // 164)
        assert cells == {0, k + 1}
        arrow = spots[(spots[:, 1] - 16) // 164 == k + 1] - [64, 16 + 4 + (k + 1) * 164]
        y, x = (arrow / 160).mean(0)
        start, end = np.array(points[k]) / 8 + 1 / 16, 1 - np.array(points[k]) / 8 - 1 / 16
        assert np.abs((y, x) - (start + end) / 2).max() < 0.2
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["rows.png"]


def test_attention_row_marks_point_that_attends_to_itself_by_ring():
    maps = make_maps(lambda picture, row, column: (row // 2, column // 2), pictures=1)
    picture = np.asarray(draw_rows([make_row(maps, 0, GRAY, [(4, 4)])], "title")).astype(int)
    spots = np.argwhere((picture[:, 16 + 168 :] == COLORS[0]).all(-1))
    assert np.ptp(spots, axis=0).max() < 32  # no arrow


def test_attention_row_has_no_arrow_when_a_map_is_uniform():
    maps = make_maps(lambda picture, row, column: None if row < 4 else (0, 0), pictures=1)
    maps.scores[:] += np.random.default_rng(0).uniform(0, 1e-3, maps.scores.shape)  # rounding of bfloat16
    row = make_row(maps, 0, GRAY, [(1, 1), (6, 6)])
    picture = np.asarray(draw_rows([row], "title")).astype(int)[:, 16 + 168 :]
    areas = [np.ptp(np.argwhere((picture[:, 164 * k : 164 * k + 160] == COLORS[k]).all(-1)), axis=0) for k in (0, 1)]
    assert areas[0].max() < 10 < 80 < areas[1].min()  # a dot; a dot and an arrow


def test_attention_row_keeps_the_aspect_of_the_image():
    square = make_maps(lambda picture, row, column: (3 - row // 2, 3 - column // 2), pictures=1)
    image = np.random.default_rng(0).integers(0, 255, (8, 16, 3), np.uint8)
    image[:4, :8] = 0  # makes the corner of the first cell known
    row = make_row(square, 0, image, [(0, 0), (7, 7)])
    picture = np.asarray(draw_rows([row], "title"))
    cell = picture[46 : 46 + 160, 16 : 16 + 320]  # below the title
    np.testing.assert_array_equal(cell[30:70, 100:150], 0)
    np.testing.assert_array_equal(cell[110, 10::20], image[5])
    for k, (x, y) in enumerate([(20, 10), (300, 150)]):
        assert tuple(cell[y, x]) == COLORS[k]
    assert picture.shape[1] > 3 * 320


def test_attention_rows_are_drawn_for_columns_and_large_gray_images():
    maps = make_maps(lambda *_: None, pictures=3)
    rows = [make_row(maps, i, np.zeros((256, 256, 1), np.float32), [(1, 1), (2, 6)]) for i in range(3)]
    narrow, wide = draw_rows(rows, "t"), draw_rows(rows, "t", columns=2)
    assert wide.width > 1.9 * (narrow.width - 32) and narrow.height > wide.height > 2 * 256
