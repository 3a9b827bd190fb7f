"""Tables show every picture at its place, and animations every table in its turn."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from sagan_tf.viewing.tables import Table, draw_table, save_animation, save_picture, save_table


def colours(rows, columns, size=8, seed=0):
    """Plain pictures, each of another colour."""
    levels = np.random.default_rng(seed).permutation(256)[: rows * columns * 3].astype(np.uint8)
    return np.broadcast_to(levels.reshape(rows, columns, 1, 1, 3), (rows, columns, size, size, 3))


def places(picture, images):
    """(rows, columns, 2) pixel means of where each plain picture is found."""
    pixels = np.asarray(picture)
    found = [[np.argwhere((pixels == image[0, 0]).all(-1)) for image in row] for row in images]
    assert all(len(spots) >= 96 * 96 for row in found for spots in row)
    return np.array([[spots.mean(0) for spots in row] for row in found])


def test_pictures_stand_in_rows_and_columns(tmp_path):
    images = colours(3, 4)
    table = Table(images, ("one", "a longer title", "犬"), tuple("abcd"), "A title wider than many a picture")
    save_table(table, tmp_path / "new" / "table.png")
    with Image.open(tmp_path / "new" / "table.png") as file:
        centres = places(file, images)
    assert np.ptp(centres[..., 0], axis=1).max() == 0 and (np.diff(centres[..., 0], axis=0) > 90).all()
    assert np.ptp(centres[..., 1], axis=0).max() == 0 and (np.diff(centres[..., 1], axis=1) > 90).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["table.png"]


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_animation_plays_every_table_for_ever(tmp_path, kind):
    tables = [Table(colours(1, 2, seed=seed), ("",)) for seed in range(5)]
    save_animation(tables, tmp_path / f"way.{kind}", 0.1)
    with Image.open(tmp_path / f"way.{kind}") as file:
        assert file.info.get("loop") == 0
        frames = [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(file)]
    assert len(frames) == 5
    for frame, table in zip(frames, tables):
        # 256 colours for all frames of a GIF: plain ones stay near.
        assert abs(frame - np.asarray(draw_table(table)).astype(int)).mean() < 3


def test_single_picture_is_kept_pixel_by_pixel(tmp_path):
    for channels in (1, 3):
        image = np.random.default_rng(0).integers(0, 255, (5, 5, channels), dtype=np.uint8)
        save_picture(image, tmp_path / "one.png")
        with Image.open(tmp_path / "one.png") as file:
            np.testing.assert_array_equal(np.asarray(file).reshape(image.shape), image)


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Received"):
        Table(colours(2, 2), ("one",))
    with pytest.raises(ValueError, match="Received"):
        Table(colours(1, 2), ("one",), ("one", "two", "three"))
    with pytest.raises(ValueError, match="Received"):
        save_animation([Table(colours(1, 1), ("",))] * 2, tmp_path / "way.mp4")
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="full"):
        save_table(Table(colours(1, 1), ("",)), tmp_path / "table.png")
    assert not list(tmp_path.iterdir())
