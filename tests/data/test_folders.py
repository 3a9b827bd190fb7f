"""Folders of pictures: layouts, file formats, orientation, and files that cannot be read."""

import math

import numpy as np
import pytest
from PIL import Image
from small_data import open_small, save_picture

from sagan_tf.data.folders import load_picture
from sagan_tf.data.pipeline import make_dataset
from sagan_tf.data.sources import class_distribution, contact_sheet_images, describe
from sagan_tf.errors import UserError

BLACK = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    for name, shape in [("kätze", (40, 60, 3)), ("犬", (70, 50, 3))]:
        for i in range(3):
            save_picture(folder / name / f"{i}.jpg", rng.integers(0, 255, shape, dtype=np.uint8))
    save_picture(folder / "犬" / "grey.PNG", np.full((40, 40), 99, np.uint8))
    (folder / ".hidden").mkdir()
    (folder / "__MACOSX").mkdir()
    return folder


def test_class_folders_give_names_counts_and_contact_sheet(pictures):
    source = open_small(pictures)
    assert (source.num_images, source.class_names, source.class_counts) == (7, ("kätze", "犬"), (3, 4))
    np.testing.assert_allclose(class_distribution(source), [3 / 7, 4 / 7])
    assert "7 pictures" in describe(source) and "under 50" in describe(source)
    images, captions = contact_sheet_images(source, 2, 2)
    assert images.shape == (4, 32, 32, 3) and captions == ["kätze", "kätze", "犬", "犬"]


def test_open_source_stops_at_or_skips_corrupt_files(pictures):
    broken = pictures / "犬" / "broken.jpg"
    content = (pictures / "犬" / "0.jpg").read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="1 of 8 files cannot be read: .*broken.jpg.*data.corrupt"):
        open_small(pictures)
    source = open_small(pictures, corrupt="skip")
    assert source.num_images == 7 and source.skipped[0][0] == str(broken)
    assert "Skipped: 1" in describe(source)


def test_load_picture_handles_transparency_depth_and_orientation(tmp_path):
    save_picture(tmp_path / "transparent_black.png", np.zeros((8, 8, 4), np.uint8))
    assert (load_picture(tmp_path / "transparent_black.png", 8, 3) == 255).all()
    save_picture(tmp_path / "deep.png", np.full((8, 8), 99 * 257, np.uint16))
    assert (load_picture(tmp_path / "deep.png", 8, 1) == 99).all()
    half = np.zeros((16, 16, 3), np.uint8)
    half[:8] = 255  # White at the top.
    exif = Image.Exif()
    exif[0x0112] = 3  # Rotated by 180 degrees.
    save_picture(tmp_path / "rotated.jpg", half, exif=exif, quality=95)
    rotated = load_picture(tmp_path / "rotated.jpg", 16, 3)
    assert rotated[:6].mean() < 10 and rotated[10:].mean() > 245


@pytest.mark.parametrize("suffix", ["bmp", "gif", "webp", "JPG", "jpeg", "PNG"])
def test_folder_source_reads_every_file_format(tmp_path, suffix):
    rows = np.repeat(np.array([[255, 255, 255], [0, 0, 0]], np.uint8), 16, axis=0)
    image = np.broadcast_to(rows[:, None], (32, 32, 3))
    save_picture(tmp_path / f"a.{suffix}", image)
    batch = next(iter(make_dataset(open_small(tmp_path), 1)))[0]
    np.testing.assert_allclose(batch[0], image / 127.5 - 1, atol=0.1)


def test_crop_and_resize_are_close_to_pillow(tmp_path):
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8))
    smooth = coarse.resize((160, 120), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "a.png")
    expected = smooth.crop((20, 0, 140, 120)).resize((32, 32), Image.Resampling.BILINEAR)
    error = load_picture(tmp_path / "a.png", 32, 3).astype(float) - np.asarray(expected, float)
    assert 20 * math.log10(255 / np.sqrt((error**2).mean() + 1e-9)) > 40  # dB


def test_open_source_rejects_folders_it_cannot_use(pictures, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        open_small(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="contains no pictures"):
        open_small(tmp_path / "empty")
    with pytest.raises(UserError, match="deeper"):
        open_small(tmp_path, split="train")
    save_picture(pictures / "stray.png", BLACK)
    with pytest.raises(UserError, match="stray.png.*Accepted"):
        open_small(pictures)
    save_picture(tmp_path / "flat" / "a.png", BLACK)
    with pytest.raises(UserError, match="no labels"):
        open_small(tmp_path / "flat", conditional=True)
    save_picture(tmp_path / "one" / "class" / "a.png", BLACK)
    with pytest.raises(UserError, match="one class"):
        open_small(tmp_path / "one", conditional=True)
