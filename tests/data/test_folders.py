"""Folders of images: layouts, file formats, orientation, and files that cannot be read."""

import io
import math

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError
from small_data import open_small, save_picture

from sagan_tf.data.image_files import load_image
from sagan_tf.data.options import DataOptions
from sagan_tf.data.pipeline import make_dataset
from sagan_tf.data.readers import ArrayReader
from sagan_tf.data.sources import (
    Source,
    class_distribution,
    contact_sheet_images,
    describe,
    open_source,
    spread_over_classes,
)
from sagan_tf.errors import UserError

BLACK = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    for name, shape in [("kätze", (40, 60, 3)), ("犬", (70, 50, 3))]:
        for i in range(3):
            save_picture(folder / name / f"{i}.jpg", rng.integers(0, 255, shape, dtype=np.uint8))
    save_picture(folder / "犬" / "gray.PNG", np.full((40, 40), 99, np.uint8))
    (folder / ".hidden").mkdir()
    (folder / "__MACOSX").mkdir()
    return folder


def test_class_folders_give_names_counts_and_contact_sheet(pictures):
    source = open_small(pictures)
    assert (source.num_images, source.class_names, source.class_counts) == (7, ("kätze", "犬"), (3, 4))
    np.testing.assert_allclose(class_distribution(source), [3 / 7, 4 / 7])
    assert "7 images" in describe(source) and "under 50" in describe(source)
    images, captions = contact_sheet_images(source, 2, 2)
    assert images.shape == (4, 32, 32, 3) and captions == ["kätze", "kätze", "犬", "犬"]
    images, labels = spread_over_classes(source, 9, classes=(1,))
    assert images.shape == (4, 32, 32, 3) and set(labels) == {1}
    with pytest.raises(UserError, match="no image of these classes"):
        spread_over_classes(source, 9, classes=(2,))


def test_spread_over_classes_meets_every_class_of_a_large_folder():
    """Of folders, which are read class by class, only the first 200 images per wanted one were looked at."""
    labels = np.repeat(np.arange(10, dtype=np.int32), 700)
    source = Source(
        "large", "train", ArrayReader(np.zeros((7000, 2, 2, 3), np.uint8), labels), tuple("abcdefghij"), None, (2, 2, 3)
    )
    np.testing.assert_array_equal(spread_over_classes(source, 32)[1], np.repeat(np.arange(10), 3))


@pytest.mark.parametrize("labels", [None, np.repeat(np.arange(2, dtype=np.int32), 50)])
def test_spread_over_classes_takes_images_from_all_over_sorted_files(labels):
    """The first ones were taken: those of a sorted folder without classes all showed its first subject."""
    images = np.arange(100, dtype=np.uint8).reshape(-1, 1, 1, 1)
    names = None if labels is None else ("a", "b")
    source = Source("sorted", "train", ArrayReader(images, labels), names, None, (1, 1, 1))
    taken = spread_over_classes(source, 4)[0].ravel()
    assert taken.tolist() == ([0, 33, 66, 99] if labels is None else [0, 49, 50, 99])


def test_open_source_stops_at_or_skips_corrupt_files(pictures):
    broken = pictures / "犬" / "broken.jpg"
    content = (pictures / "犬" / "0.jpg").read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="1 of 8 files cannot be read: .*broken.jpg.*data.corrupt"):
        open_small(pictures)
    source = open_small(pictures, corrupt="skip")
    assert source.num_images == 7 and source.skipped[0][0] == str(broken)
    assert "7 of 8 files used. Skipped: 1 file(s):" in describe(source)


def test_open_source_reads_names_that_start_with_underscores(pictures):
    save_picture(pictures / "__background__" / "__x.png", BLACK)
    source = open_small(pictures)
    assert (source.num_images, source.class_names) == (8, ("__background__", "kätze", "犬"))


def test_open_source_names_png_without_pixels(pictures):
    content = io.BytesIO()
    Image.fromarray(BLACK).save(content, "PNG")
    start, end = (content.getvalue().index(chunk) - 4 for chunk in (b"IDAT", b"IEND"))
    (pictures / "犬" / "empty.png").write_bytes(content.getvalue()[:start] + content.getvalue()[end:])
    with pytest.raises(UserError, match="1 of 8 files cannot be read: .*empty.png"):
        open_small(pictures)
    assert open_small(pictures, corrupt="skip").num_images == 7


def test_load_image_handles_transparency_depth_and_orientation(tmp_path):
    save_picture(tmp_path / "transparent_black.png", np.zeros((8, 8, 4), np.uint8))
    assert (load_image(tmp_path / "transparent_black.png", (8, 8, 3)) == 255).all()
    save_picture(tmp_path / "deep.png", np.full((8, 8), 99 * 257, np.uint16))
    assert (load_image(tmp_path / "deep.png", (8, 8, 1)) == 99).all()
    half = np.zeros((16, 16, 3), np.uint8)
    half[:8] = 255  # White at the top.
    exif = Image.Exif()
    exif[0x0112] = 3  # Rotated by 180 degrees.
    save_picture(tmp_path / "rotated.jpg", half, exif=exif, quality=95)
    rotated = load_image(tmp_path / "rotated.jpg", (16, 16, 3))
    assert rotated[:6].mean() < 10 and rotated[10:].mean() > 245


@pytest.mark.parametrize("suffix", "bmp gif webp JPG jpeg PNG tif TIFF jfif ppm jp2 avif".split())
def test_folder_source_reads_every_file_format(tmp_path, suffix):
    rows = np.repeat(np.array([[255, 255, 255], [0, 0, 0]], np.uint8), 16, axis=0)
    image = np.broadcast_to(rows[:, None], (32, 32, 3))
    if Image.registered_extensions().get(f".{suffix.lower()}") not in Image.SAVE:
        pytest.skip(f"this Pillow does not write .{suffix}")
    save_picture(tmp_path / f"a.{suffix}", image)
    batch = next(iter(make_dataset(open_small(tmp_path), 1)))[0]
    np.testing.assert_allclose(batch[0], image, atol=13)


def test_crop_and_resize_are_close_to_pillow(tmp_path):
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8))
    smooth = coarse.resize((160, 120), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "a.png")
    expected = smooth.crop((20, 0, 140, 120)).resize((32, 32), Image.Resampling.BILINEAR)
    error = load_image(tmp_path / "a.png", (32, 32, 3)).astype(float) - np.asarray(expected, float)
    assert 20 * math.log10(255 / np.sqrt((error**2).mean() + 1e-9)) > 40  # dB


def test_open_source_rejects_folders_it_cannot_use(pictures, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        open_small(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="contains no images"):
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


def make_folders(root, *paths):
    for path in paths:
        save_picture(root / path, BLACK)
    return root


def test_folder_named_like_a_split_is_a_class_beside_other_classes(tmp_path):
    folder = make_folders(tmp_path, "bus/a.png", "car/a.png", "test/a.png", "train/a.png", "train/b.png")
    source = open_small(folder)
    assert (source.class_names, source.class_counts) == (("bus", "car", "test", "train"), (1, 1, 1, 2))
    with pytest.raises(UserError, match="has no split `test`"):
        open_small(folder, split="test")


@pytest.mark.parametrize("classes", [("",), ("x/", "y/")])
def test_folders_named_like_splits_only_are_splits(tmp_path, classes):
    folder = make_folders(tmp_path, *(f"{split}/{name}a.png" for split in ("train", "val") for name in classes))
    (folder / "annotations").mkdir()
    save_picture(folder / "val" / classes[0] / "b.png", BLACK)
    train, val = open_small(folder), open_small(folder, split="val")
    assert (train.num_images, val.num_images) == (len(classes), len(classes) + 1)
    assert train.class_names == val.class_names == (("x", "y") if len(classes) == 2 else None)
    assert train.skipped == ((str(folder / "annotations") + "/", "contains no images"),)
    with pytest.raises(UserError, match="has no split `test`. Choose from train, val"):
        open_small(folder, split="test")


@pytest.mark.parametrize("split", ["test", "train[:50%]"])
def test_folder_without_splits_has_only_the_split_train(pictures, split):
    with pytest.raises(UserError, match="has no split `t.*; a folder has splits only if"):
        open_small(pictures, split=split)


def test_nested_folder_names_the_class_that_looks_like_a_split(tmp_path):
    folder = make_folders(tmp_path, "train/x/a.png", "extra/x/a.png")
    with pytest.raises(UserError, match="`extra/x`. `train` counts as a class here, because `extra` is not the name"):
        open_small(folder)


def test_describe_tells_the_embedded_data_set_from_a_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = open_source(DataOptions(name="twins", split="test", image_size=32))
    assert "Note" not in describe(source)
    (tmp_path / "twins").mkdir()
    assert "Note: this is the embedded data set, not the folder of that name, which is ./twins." in describe(source)


def test_describe_names_and_counts_what_is_not_used(pictures):
    for name in ("a.heic", "b.HEIC", "c.txt", "none"):
        (pictures / "kätze" / name).touch()
    (pictures / "kätze" / "dead.png").symlink_to("nowhere.png")
    (pictures / "empty").mkdir()
    (pictures / "犬" / "deeper").mkdir()
    lines = describe(open_small(pictures)).splitlines()
    at = next(i for i, line in enumerate(lines) if "files used" in line)
    assert lines[at] == f"{pictures}: 7 of 12 files used. Skipped: 5 file(s), 2 folder(s):"
    assert set(lines[at + 1 :]) == {
        f"  {pictures}/kätze/a.heic and 1 more: `.heic` is not read",
        f"  {pictures}/kätze/c.txt: `.txt` is not read",
        f"  {pictures}/kätze/none: no suffix",
        f"  {pictures}/kätze/dead.png: dead link",
        f"  {pictures}/empty/: contains no images",
        f"  {pictures}/犬/deeper/: folder in a class folder",
    }


def test_class_without_a_readable_image_is_no_class(pictures):
    (pictures / "broken").mkdir()
    for name in ("0.jpg", "1.jpg"):
        (pictures / "broken" / name).write_bytes(b"no image")
    for memory_limit_gib in (2.0, 0.0):
        source = open_small(pictures, corrupt="skip", memory_limit_gib=memory_limit_gib)
        assert (source.class_names, source.class_counts) == (("kätze", "犬"), (3, 4))
        assert source.reader.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    lines = describe(source).splitlines()
    assert f"  {pictures}/broken/0.jpg and 1 more: not an image of a format that is read" in lines
    assert f"  {pictures}/broken/: no image of the class `broken` can be read" in lines


def test_load_image_rejects_formats_and_ranges_that_are_not_read(tmp_path):
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(np.ones((8, 8), np.int32)).save(tmp_path / "whole.tif")
    Image.fromarray(BLACK).save(tmp_path / "a.png", "TGA")
    for name in ("float.tif", "whole.tif"):
        with pytest.raises(ValueError, match="32 bits"):
            load_image(tmp_path / name, (8, 8, 3))
    with pytest.raises(UnidentifiedImageError):
        load_image(tmp_path / "a.png", (8, 8, 3))


@pytest.fixture
def tiny_imagenet(tmp_path):
    folder = tmp_path / "tiny-imagenet-200"
    for wnid in ("n02", "n01", "n03"):
        for i in range(2):
            save_picture(folder / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", BLACK)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t7\t7\n")
    for split in ("val", "test"):
        for i in range(4):
            save_picture(folder / split / "images" / f"{split}_{i}.JPEG", BLACK)
    (folder / "wnids.txt").write_text("n02\nn01\nn03\n")
    (folder / "words.txt").write_text("n00\tentity\nn01\tgoldfish, Carassius auratus\nn02\tcrane\nn03\tcrane\n")
    rows = [f"val_{i}.JPEG\t{wnid}\t0\t0\t7\t7" for i, wnid in enumerate(("n03", "n01", "n01"))]
    (folder / "val" / "val_annotations.txt").write_text("\n".join(rows))
    return folder


def test_open_source_reads_tiny_imagenet(tiny_imagenet):
    source = open_small(tiny_imagenet)
    assert source.class_names == ("goldfish", "crane (n02)", "crane (n03)") and source.class_counts == (2, 2, 2)
    assert source.reader.labels.tolist() == [0, 0, 1, 1, 2, 2] and source.skipped == ()
    source = open_small(tiny_imagenet, split="val")
    files = [path.rpartition("/")[2] for path in source.files]
    assert list(zip(files, source.reader.labels)) == [("val_1.JPEG", 0), ("val_2.JPEG", 0), ("val_0.JPEG", 2)]
    assert [reason for _, reason in source.skipped] == ["has no class in wnids.txt"]
    source = open_small(tiny_imagenet, split="test")
    assert source.num_images == 4 and source.class_names is None
    (tiny_imagenet / "words.txt").unlink()
    assert open_small(tiny_imagenet).class_names == ("n01", "n02", "n03")
    with pytest.raises(UserError, match="no split `dev`. Choose from train, val, test"):
        open_small(tiny_imagenet, split="dev")
