"""Grids put every picture where it belongs."""

import numpy as np
import pytest
from PIL import Image

from sagan_tf.viewing.grids import save_contact_sheet, save_grid


def test_grid_holds_every_picture_row_by_row(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (5, 4, 6, 3), dtype=np.uint8)
    save_grid(images, tmp_path / "new" / "grid.png", columns=2, scale=3)
    with Image.open(tmp_path / "new" / "grid.png") as file:
        grid = np.asarray(file)[::3, ::3]
    assert grid.shape == (12, 12, 3)
    for i, image in enumerate(images):
        top, left = i // 2 * 4, i % 2 * 6
        np.testing.assert_array_equal(grid[top : top + 4, left : left + 6], image)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["grid.png"]


def test_contact_sheet_takes_grey_floats_and_long_captions(tmp_path):
    images = np.linspace(-1, 1, 3)[:, None, None, None] * np.ones((1, 32, 32, 1))
    save_contact_sheet(images, ["a", "b" * 99, "犬"], tmp_path / "sheet.png", 2, "title")
    with Image.open(tmp_path / "sheet.png") as sheet:
        levels = set(np.unique(np.asarray(sheet)))
    assert {0, 128, 255} <= levels


@pytest.mark.parametrize("images, columns", [(np.zeros((0, 4, 4, 3)), 1), (np.zeros((1, 4, 4, 2)), 1)])
def test_what_is_no_picture_is_refused(tmp_path, images, columns):
    with pytest.raises(ValueError, match="Received"):
        save_grid(images, tmp_path / "grid.png", columns)
    assert not list(tmp_path.iterdir())
