"""Data sources: what is found, exact seeking, folders as users have them, and the real data where it lies."""

import math
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sagan_tf.data import embedded
from sagan_tf.data.folders import load_picture
from sagan_tf.data.pipeline import make_dataset
from sagan_tf.data.preprocessing import to_float, to_uint8
from sagan_tf.data.readers import ArrayReader
from sagan_tf.data.sources import Source, class_distribution, contact_sheet_images, damage_named, describe, open_source
from sagan_tf.errors import UserError

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the real pictures of ../shared/data are not here")


def numbered(count):
    """A source whose pictures tell their number."""
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    return Source("numbered", "train", ArrayReader(images, np.arange(count, dtype=np.int32)), None, None, 2, 3)


def take(dataset, count):
    return [[part.numpy() for part in element] for element in dataset.take(count)]


@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 40), batch=st.integers(1, 50), seed=st.integers(0, 2**40), start=st.integers(0, 30))
def test_stream_is_entered_bit_exactly_at_any_step(count, batch, seed, start):
    source = numbered(count)
    whole = take(make_dataset(source, batch, seed=seed, flip=True, dequantize=True), start + 2)
    late = take(make_dataset(source, batch, seed=seed, start_step=start, flip=True, dequantize=True), 2)
    for a, b in zip(whole[start:], late, strict=True):
        np.testing.assert_array_equal(a[0], b[0])


@settings(max_examples=15, deadline=None)
@given(count=st.integers(2, 40), seed=st.integers(0, 1000))
def test_every_epoch_is_a_permutation_of_its_own(count, seed):
    epochs = [labels for _, labels in take(make_dataset(numbered(count), count, seed=seed), 6)]
    for labels in epochs:
        assert sorted(labels) == list(range(count))
    if count > 8:
        assert len({tuple(labels) for labels in epochs}) > 1


def test_grey_levels_survive_the_round_trip():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8(to_float(levels)), levels)
    assert to_uint8(np.array([-3.0, 3.0])).numpy().tolist() == [0, 255]


@pytest.mark.parametrize("name", embedded.NAMES)
@pytest.mark.parametrize("size, channels", [(32, 3), (64, 1)])
def test_an_embedded_picture_depends_on_its_number_alone(name, size, channels):
    options = dict(image_size=size, channels=channels)
    many, labels = embedded.render(name, range(600), **options)
    few, label = embedded.render(name, [599, 3], **options)
    np.testing.assert_array_equal(few, many[[599, 3]])
    np.testing.assert_array_equal(label, labels[[599, 3]])
    assert set(labels) == {0, 1, 2, 3}


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    for i, (name, shape) in enumerate([("kätze", (40, 60, 3)), ("犬", (70, 50, 3))]):
        for j in range(3):
            save(folder / name / f"{j}.jpg", rng.integers(0, 255, shape, dtype=np.uint8))
    save(folder / "犬" / "grey.PNG", np.full((40, 40), 99, np.uint8))
    (folder / ".hidden").mkdir()
    (folder / "__MACOSX").mkdir()
    return folder


def test_class_folders_are_found(pictures):
    source = open_source(str(pictures), show_progress=False)
    assert (source.num_images, source.class_names, source.class_counts) == (7, ("kätze", "犬"), (3, 4))
    np.testing.assert_allclose(class_distribution(source), [3 / 7, 4 / 7])
    assert "7 pictures" in describe(source) and "fewer than 50" in describe(source)
    images, captions = contact_sheet_images(source, 2, 2)
    assert images.shape == (4, 32, 32, 3) and captions == ["kätze", "kätze", "犬", "犬"]


def test_in_memory_and_from_disk_are_the_same_stream(pictures):
    streams = []
    for limit in (1.0, 0.0):
        source = open_source(str(pictures), memory_limit_gib=limit, show_progress=False)
        streams.append(take(make_dataset(source, 4, seed=3, start_step=2), 3))
    for a, b in zip(*streams, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])


def test_corrupt_files_are_named_and_stop_or_are_skipped(pictures):
    broken = pictures / "犬" / "broken.jpg"
    whole = (pictures / "犬" / "0.jpg").read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="1 of 8 files cannot be read: .*broken.jpg.*data.corrupt"):
        open_source(str(pictures), show_progress=False)
    source = open_source(str(pictures), corrupt="skip", show_progress=False)
    assert source.num_images == 7 and source.skipped[0][0] == str(broken)
    assert "Skipped: 1" in describe(source)


def test_modes_and_rotation(tmp_path):
    rgba = np.zeros((8, 8, 4), np.uint8)  # transparent black
    save(tmp_path / "alpha.png", rgba)
    assert (load_picture(tmp_path / "alpha.png", 8, 3) == 255).all()
    save(tmp_path / "deep.png", np.full((8, 8), 99 * 257, np.uint16))
    assert (load_picture(tmp_path / "deep.png", 8, 1) == 99).all()
    half = np.zeros((16, 16, 3), np.uint8)
    half[:8] = 255  # white above
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    save(tmp_path / "turned.jpg", half, exif=exif, quality=95)
    turned = load_picture(tmp_path / "turned.jpg", 16, 3)
    assert turned[:6].mean() < 10 and turned[10:].mean() > 245


@pytest.mark.parametrize("suffix", ["bmp", "gif", "webp", "JPG", "jpeg", "PNG"])
def test_every_file_type_is_read(tmp_path, suffix):
    rows = np.repeat(np.array([[255, 255, 255], [0, 0, 0]], np.uint8), 16, axis=0)
    image = np.broadcast_to(rows[:, None], (32, 32, 3))
    save(tmp_path / f"a.{suffix}", image)
    got = take(make_dataset(open_source(str(tmp_path), show_progress=False), 1), 1)[0][0]
    np.testing.assert_allclose(got[0], image / 127.5 - 1, atol=0.1)


def test_crop_and_resize_are_close_to_pillow(tmp_path):
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8))
    smooth = coarse.resize((160, 120), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "a.png")
    want = smooth.crop((20, 0, 140, 120)).resize((32, 32), Image.Resampling.BILINEAR)
    error = load_picture(tmp_path / "a.png", 32, 3).astype(float) - np.asarray(want, float)
    assert 20 * math.log10(255 / np.sqrt((error**2).mean() + 1e-9)) > 40  # dB


def test_bad_folders_are_refused_in_one_line(pictures, tmp_path):
    with pytest.raises(UserError, match="is not there"):
        open_source(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no picture"):
        open_source(str(tmp_path / "empty"))
    with pytest.raises(UserError, match="deeper"):
        open_source(str(tmp_path), split="train")
    save(pictures / "stray.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="stray.png.*Accepted"):
        open_source(str(pictures))
    save(tmp_path / "flat" / "a.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="no labels"):
        open_source(str(tmp_path / "flat"), conditional=True, show_progress=False)
    save(tmp_path / "one" / "class" / "a.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="one class"):
        open_source(str(tmp_path / "one"), conditional=True, show_progress=False)


@needs_shared
def test_cifar10_in_order_resumes_bit_exactly():
    options = dict(data_dir=str(SHARED / "tfds"), split="train[:3000]", memory_limit_gib=0.0, shuffle_buffer=500)
    source = open_source("cifar10", **options)
    assert source.num_images == 3000 and sum(source.class_counts) == 3000 and source.num_classes == 10
    whole = take(make_dataset(source, 64, seed=1), 60)
    for start in (20, 47):  # in the first data epoch and in the second
        late = take(make_dataset(source, 64, seed=1, start_step=start), 3)
        for a, b in zip(whole[start : start + 3], late, strict=True):
            np.testing.assert_array_equal(a[0], b[0])


@needs_shared
def test_cifar10_in_its_own_order_is_the_same_from_disk_and_from_memory():
    disk, memory = (
        open_source("cifar10", data_dir=str(SHARED / "tfds"), split="train[:300]", memory_limit_gib=limit)
        for limit in (0.0, 1.0)
    )
    for start in (0, 130):
        batches = (source.reader.in_order_batches(64, start) for source in (disk, memory))
        pairs = list(zip(*batches, strict=True))
        assert sum(len(one[0]) for one, _ in pairs) == 300 - start
        for one, other in pairs:
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])


@needs_shared
def test_imagenet_is_prepared_from_its_archives(tmp_path):
    options = dict(data_dir=str(tmp_path), manual_dir=str(SHARED / "imagenet_mini" / "manual"), show_progress=False)
    source = open_source("imagenet2012", image_size=64, **options)
    assert (source.num_images, source.num_classes, set(source.class_counts)) == (1000, 1000, {1})


def test_unprepared_and_unknown_names_are_refused(tmp_path):
    with pytest.raises(UserError, match="not prepared.*data.data_dir"):
        open_source("cifar10", data_dir=str(tmp_path))
    with pytest.raises(UserError, match="Did you mean `cifar10"):
        open_source("cifar11", data_dir=str(tmp_path))


@pytest.mark.parametrize("memory", [1.0, 0.0])
def test_a_damaged_record_is_one_line(tmp_path, memory):
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(8, 8, 3), encoding_format="png")})
    good = np.zeros((8, 8, 3), np.uint8)
    folder = tmp_path / "broken" / "1.0.0"
    folder.mkdir(parents=True)
    record = features.serialize_example({"image": good})
    damaged = record.replace(b"IHDR", b"NONE")
    assert damaged != record
    path = folder / "broken-train.tfrecord-00000-of-00001"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for data in [record] * 5 + [damaged]:
            writer.write(data)
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features,
        split_infos=[tfds.core.SplitInfo(name="train", shard_lengths=[6], num_bytes=1)],
        filename_template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    )
    with pytest.raises(UserError, match="data set `broken`: a picture or record is damaged.*PNG"):
        with damage_named("broken"):
            source = open_source("broken", data_dir=str(tmp_path), memory_limit_gib=memory, show_progress=False)
            take(make_dataset(source, 6), 1)


def test_other_errors_keep_their_traceback():
    with pytest.raises(tf.errors.InvalidArgumentError), damage_named("any"):
        tf.reshape(tf.zeros(3), (2, 2))
