"""TensorFlow Datasets: prepared from archives, and errors for missing and damaged ones."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from small_data import SHARED, needs_shared_data, open_small

from sagan_tf.data.pipeline import make_dataset
from sagan_tf.data.sources import translate_data_errors
from sagan_tf.errors import UserError


@needs_shared_data
def test_imagenet_is_prepared_from_its_archives(tmp_path):
    manual_dir = str(SHARED / "imagenet_mini" / "manual")
    source = open_small("imagenet2012", image_size=64, data_dir=str(tmp_path), manual_dir=manual_dir)
    assert (source.num_images, source.num_classes, set(source.class_counts)) == (1000, 1000, {1})


def test_open_source_rejects_unprepared_and_unknown_names(tmp_path):
    with pytest.raises(UserError, match="not prepared.*data.data_dir"):
        open_small("cifar10", data_dir=str(tmp_path))
    with pytest.raises(UserError, match="Did you mean `cifar10"):
        open_small("cifar11", data_dir=str(tmp_path))


@pytest.mark.parametrize("memory_limit_gib", [1.0, 0.0])
def test_open_source_reports_damaged_record_in_one_line(tmp_path, memory_limit_gib):
    features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(8, 8, 3), encoding_format="png")})
    folder = tmp_path / "broken" / "1.0.0"
    folder.mkdir(parents=True)
    record = features.serialize_example({"image": np.zeros((8, 8, 3), np.uint8)})
    damaged = record.replace(b"IHDR", b"NONE")
    assert damaged != record
    with tf.io.TFRecordWriter(str(folder / "broken-train.tfrecord-00000-of-00001")) as writer:
        for data in [record] * 5 + [damaged]:
            writer.write(data)
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features,
        split_infos=[tfds.core.SplitInfo(name="train", shard_lengths=[6], num_bytes=1)],
        filename_template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    )
    with pytest.raises(UserError, match="data set `broken`: a picture or record is damaged.*PNG"):
        with translate_data_errors("broken"):
            source = open_small("broken", data_dir=str(tmp_path), memory_limit_gib=memory_limit_gib)
            next(iter(make_dataset(source, 6)))


def test_translate_data_errors_leaves_other_errors():
    with pytest.raises(tf.errors.InvalidArgumentError), translate_data_errors("any"):
        tf.reshape(tf.zeros(3), (2, 2))
