"""Every image, title and caption is in its place."""

import numpy as np
import pytest
from PIL import Image
from viewing.plain_images import plain_images

from sagan_tf.viewing.image_grids import Table, save_contact_sheet, save_grid, save_table
from sagan_tf.viewing.text import TextFont


def test_image_grid_holds_every_image_row_by_row(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (5, 4, 6, 3), dtype=np.uint8)
    save_grid(images, tmp_path / "new" / "grid.png", columns=2)
    with Image.open(tmp_path / "new" / "grid.png") as file:
        grid = np.asarray(file)[::16, ::16]  # 4 px are enlarged to 64
    assert grid.shape == (12, 12, 3)
    for i, image in enumerate(images):
        top, left = i // 2 * 4, i % 2 * 6
        np.testing.assert_array_equal(grid[top : top + 4, left : left + 6], image)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["grid.png"]


def test_contact_sheet_accepts_gray_floats_and_long_captions(tmp_path):
    images = np.linspace(-1, 1, 3)[:, None, None, None] * np.ones((1, 32, 32, 1))
    save_contact_sheet(images, ["a", "b" * 99, "犬"], tmp_path / "sheet.png", 2, "title")
    with Image.open(tmp_path / "sheet.png") as sheet:
        levels = set(np.unique(np.asarray(sheet)))
    assert {0, 128, 255} <= levels


def test_image_table_cuts_titles_of_any_length(tmp_path, monkeypatch):
    """The whole name was measured anew for each letter less, which takes hours for 100,000."""
    measure, measured = TextFont.getlength, []

    def counting(font, text):
        measured.append(len(text))
        return measure(font, text)

    monkeypatch.setattr(TextFont, "getlength", counting)
    save_table(Table(plain_images(1, 2), ("a" * 100_000,)), tmp_path / "table.png")
    assert sum(measured) < 10_000
    with Image.open(tmp_path / "table.png") as picture:
        assert picture.width < 2 * 96 + 400


@pytest.mark.parametrize("images, columns", [(np.zeros((0, 4, 4, 3)), 1), (np.zeros((1, 4, 4, 2)), 1)])
def test_image_grid_rejects_invalid_images(tmp_path, images, columns):
    with pytest.raises(ValueError, match="Received"):
        save_grid(images, tmp_path / "grid.png", columns)
    assert not list(tmp_path.iterdir())


def test_contact_sheet_rejects_wrong_number_of_captions(tmp_path):
    with pytest.raises(ValueError, match="Received: 1 for 2 images"):
        save_contact_sheet(np.zeros((2, 4, 4, 3)), ["a"], tmp_path / "sheet.png", 2, "title")


def centers(picture, images):
    """(rows, columns, 2) mean pixel positions of plain images in an image."""
    pixels = np.asarray(picture)
    positions = [[np.argwhere((pixels == image[0, 0]).all(-1)) for image in row] for row in images]
    assert all(len(spots) >= 96 * 96 for row in positions for spots in row)
    return np.array([[spots.mean(0) for spots in row] for row in positions])


def test_image_table_aligns_images_in_rows_and_columns(tmp_path):
    images = plain_images(3, 4)
    table = Table(images, ("one", "a longer title", "犬"), tuple("abcd"), "A title wider than many a picture")
    save_table(table, tmp_path / "new" / "table.png")
    with Image.open(tmp_path / "new" / "table.png") as file:
        places = centers(file, images)
    assert np.ptp(places[..., 0], axis=1).max() == 0 and (np.diff(places[..., 0], axis=0) > 90).all()
    assert np.ptp(places[..., 1], axis=0).max() == 0 and (np.diff(places[..., 1], axis=1) > 90).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["table.png"]


def test_image_table_rejects_wrong_number_of_titles():
    with pytest.raises(ValueError, match="Received"):
        Table(plain_images(2, 2), ("one",))
    with pytest.raises(ValueError, match="Received"):
        Table(plain_images(1, 2), ("one",), ("one", "two", "three"))
