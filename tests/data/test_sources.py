"""TensorFlow Datasets: levels and labels of the records, and errors for missing, damaged and unsuitable ones."""

from unittest.mock import Mock

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from small_data import SHARED, needs_shared_data, open_small, save_picture

from sagan_tf.data.options import DataOptions
from sagan_tf.data.pipeline import make_dataset
from sagan_tf.data.readers import ArrayReader
from sagan_tf.data.sources import Source, open_source, translate_data_errors
from sagan_tf.errors import UserError

in_memory_and_on_disk = pytest.mark.parametrize("memory_limit_gib", [1.0, 0.0])


@needs_shared_data
def test_imagenet_is_prepared_from_its_archives(tmp_path):
    manual_dir = str(SHARED / "imagenet_mini" / "manual")
    source = open_small("imagenet2012", image_size=64, data_dir=str(tmp_path), manual_dir=manual_dir)
    assert (source.num_images, source.num_classes, set(source.class_counts)) == (1000, 1000, {1})


def test_open_source_rejects_unprepared_and_unknown_names(tmp_path):
    with pytest.raises(UserError, match="not prepared.*data.data_dir"):
        open_small("cifar10", data_dir=str(tmp_path))
    for name in ("cifar11", "cifar-10", "CIFAR_10"):
        with pytest.raises(UserError, match="neither a folder nor .* Did you mean `cifar10"):
            open_small(name, data_dir=str(tmp_path))


def test_open_source_names_a_package_that_the_data_set_needs(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ModuleNotFoundError("No module named 'pandas'")

    monkeypatch.setattr(tfds, "builder", fail)
    with pytest.raises(UserError, match="data.name: `dices` needs a package: No module named 'pandas'. Install it"):
        open_small("dices", data_dir=str(tmp_path))


def test_open_source_names_why_the_hub_of_data_sets_cannot_be_reached(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ConnectionAbortedError

    monkeypatch.setattr(tfds, "builder", fail)
    with pytest.raises(UserError, match="data.name: `huggingface:mnist` cannot be opened: ConnectionAbortedError"):
        open_small("huggingface:mnist", data_dir=str(tmp_path))


@pytest.mark.parametrize("split", ["train[2:1]", "train[:2]+train[2:1]"])
def test_open_source_refuses_a_slice_that_ends_before_it_begins(tmp_path, split):
    pictures = [np.zeros((32, 32, 3), np.uint8)] * 3
    write_records(tmp_path, "three", tfds.features.Image(shape=(32, 32, 3)), pictures, [0, 1, 2])
    with pytest.raises(UserError, match=r"`train.*`: a part of it ends before it begins"):
        open_small("three", data_dir=str(tmp_path), split=split)
    assert open_small("three", data_dir=str(tmp_path), split="train[1:1]+train[:2]").num_images == 2
    with pytest.raises(UserError, match="has no split `all"):
        open_small("three", data_dir=str(tmp_path), split="all[:2]")


def write_records(folder, name, image, pictures, labels, damage_last=False):
    """Writes a prepared TensorFlow Datasets data set of three classes."""
    features = tfds.features.FeaturesDict({"image": image, "label": tfds.features.ClassLabel(num_classes=3)})
    folder = folder / name / "1.0.0"
    folder.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(folder / f"{name}-train.tfrecord-00000-of-00001")) as writer:
        records = [features.serialize_example({"image": x, "label": label}) for x, label in zip(pictures, labels)]
        if damage_last:
            records[-1] = records[-1].replace(b"IHDR", b"NONE")
        for record in records:
            writer.write(record)
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features,
        split_infos=[tfds.core.SplitInfo(name="train", shard_lengths=[len(labels)], num_bytes=1)],
        filename_template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    )


@in_memory_and_on_disk
def test_open_source_reports_damaged_record_in_one_line(tmp_path, memory_limit_gib):
    image, pictures = tfds.features.Image(shape=(8, 8, 3), encoding_format="png"), np.zeros((6, 8, 8, 3), np.uint8)
    write_records(tmp_path, "broken", image, pictures, [0, 1, 2] * 2, damage_last=True)
    with pytest.raises(UserError, match="data set `broken`: an image or record is damaged.*PNG"):
        with translate_data_errors("broken"):
            source = open_small("broken", data_dir=str(tmp_path), memory_limit_gib=memory_limit_gib)
            next(iter(make_dataset(source, 6)))


def test_open_source_names_why_a_download_fails(tmp_path, monkeypatch):
    """TensorFlow Datasets has types of its own for it, which ended in a traceback."""
    builder = tfds.builder("mnist", data_dir=tmp_path)
    failures = [tfds.download.DownloadError("HTTP code: 404"), ImportError("No module named 'x'"), Exception("bad zip")]
    for failure in failures:
        monkeypatch.setattr(type(builder), "download_and_prepare", Mock(side_effect=failure))
        with pytest.raises(UserError, match=f"`mnist` cannot be prepared: {failure}"):
            open_small("mnist", data_dir=str(tmp_path), download=True)


def test_open_source_names_a_file_format_that_is_not_read(tmp_path, monkeypatch):
    image, pictures = tfds.features.Image(shape=(8, 8, 3), encoding_format="png"), np.zeros((6, 8, 8, 3), np.uint8)
    write_records(tmp_path, "plain", image, pictures, [0, 1, 2] * 2)
    monkeypatch.setattr(tfds.core.DatasetInfo, "file_format", tfds.core.FileFormat.ARRAY_RECORD)
    with pytest.raises(UserError, match="`plain`: is prepared as array_record, and only tfrecord is read"):
        open_small("plain", data_dir=str(tmp_path))


def test_images_damaged_later_are_named_with_what_to_do(tmp_path):
    for i in range(4):
        save_picture(tmp_path / "plain" / f"{i}.png", np.full((32, 32, 3), i, np.uint8))
    source = open_small(tmp_path / "plain", memory_limit_gib=0.0)
    (tmp_path / "plain" / "2.png").write_bytes(b"half")
    with pytest.raises(UserError, match="2.png: .* Repair or restore it.$") as caught:
        with translate_data_errors(tmp_path / "plain", "cifar10"):
            next(iter(make_dataset(source, 4)))
    assert "ValueError" not in str(caught.value)


def test_records_that_vanish_are_named(tmp_path):
    image, pictures = tfds.features.Image(shape=(8, 8, 3), encoding_format="png"), np.zeros((6, 8, 8, 3), np.uint8)
    write_records(tmp_path, "lost", image, pictures, [0, 1, 2] * 2)
    source = open_small("lost", data_dir=str(tmp_path), memory_limit_gib=0.0)
    for path in tmp_path.rglob("*tfrecord*"):
        path.unlink()
    with pytest.raises(UserError, match="tfrecord-00000-of-00001: cannot be read: No such file"):
        with translate_data_errors("lost"):
            next(iter(make_dataset(source, 6)))


RAMP = np.tile(np.linspace(0, 1, 32)[:, None], (6, 32, 1, 1))  # Black to white, from left to right.


def test_open_source_rejects_float_records(tmp_path):
    image = tfds.features.Image(shape=(32, 32, 1), dtype=np.float32)
    write_records(tmp_path, "depth", image, RAMP.astype(np.float32), [0, 1, 2] * 2)
    with pytest.raises(UserError, match="`depth`: the images of `image` are float32.*Convert them to uint8"):
        open_small("depth", data_dir=str(tmp_path))


@in_memory_and_on_disk
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_records_hold_the_levels_that_were_written(tmp_path, dtype, memory_limit_gib):
    image = tfds.features.Image(shape=(32, 32, 1), dtype=dtype, encoding_format="png")
    pictures, highest = np.rint(RAMP * np.iinfo(dtype).max).astype(dtype), np.iinfo(dtype).max
    write_records(tmp_path, "ramp", image, pictures, [0, 1, 2] * 2)
    source = open_small("ramp", data_dir=str(tmp_path), memory_limit_gib=memory_limit_gib, image_channels=1)
    images = np.concatenate([images for images, _ in source.reader.in_order_batches(4)])
    np.testing.assert_array_equal(images, np.rint(pictures / (highest / 255)))


@in_memory_and_on_disk
def test_unlabeled_records_are_unconditional(tmp_path, memory_limit_gib):
    image, pictures = tfds.features.Image(shape=(32, 32, 3)), np.zeros((6, 32, 32, 3), np.uint8)
    write_records(tmp_path, "unlabeled", image, pictures, [-1] * 6)
    options = {"data_dir": str(tmp_path), "memory_limit_gib": memory_limit_gib}
    source = open_small("unlabeled", **options)
    assert source.class_names is None and len(next(iter(make_dataset(source, 2)))) == 1
    with pytest.raises(UserError, match="data.conditional: data set `unlabeled` has no labels"):
        open_small("unlabeled", conditional=True, **options)


@in_memory_and_on_disk
def test_open_source_rejects_partly_labeled_records_unless_unconditional(tmp_path, memory_limit_gib):
    image, pictures = tfds.features.Image(shape=(32, 32, 3)), np.zeros((6, 32, 32, 3), np.uint8)
    write_records(tmp_path, "partly", image, pictures, [0, 1, -1, 2, -1, 0])
    options = {"data_dir": str(tmp_path), "memory_limit_gib": memory_limit_gib}
    for conditional in (None, True):
        with pytest.raises(UserError, match="2 of 6 labels are outside of 0 to 2, such as -1.*data.conditional"):
            open_small("partly", conditional=conditional, **options)
    assert open_small("partly", conditional=False, **options).num_classes is None


@pytest.mark.parametrize("label", [-1, 2])
def test_source_rejects_labels_without_class(label):
    reader = ArrayReader(np.zeros((2, 8, 8, 3), np.uint8), np.array([0, label], np.int32))
    with pytest.raises(ValueError, match=r"must be in 0 \.\. 1"):
        Source("array", "train", reader, ("a", "b"), (1, 1), (8, 8, 3))


def test_translate_data_errors_leaves_other_errors():
    with pytest.raises(tf.errors.InvalidArgumentError), translate_data_errors("any"):
        tf.reshape(tf.zeros(3), (2, 2))


@pytest.mark.parametrize("name", ["pictures", "discs", "faces"])
def test_open_source_says_how_to_name_a_folder_when_there_is_none(name):
    with pytest.raises(UserError, match=f"`{name}` is neither .*\\. Name your folder with --data.name PATH\\.$"):
        open_source(DataOptions(name=name))
