"""TensorFlow Datasets builders of the embedded data sets hold the images that training renders."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from small_data import open_small

from sagan_tf.data import embedded
from sagan_tf.data.tfds_builders import EmbeddedConfig

SMALL_SPLITS = {"train": 60, "test": 20}


@pytest.fixture(autouse=True)
def small_splits(monkeypatch):
    monkeypatch.setattr(embedded, "SPLITS", SMALL_SPLITS)


def examples(dataset):
    return sorted((image.tobytes(), int(label)) for image, label in tfds.as_numpy(dataset))


@pytest.mark.parametrize("name", embedded.NAMES)
@pytest.mark.parametrize("split", SMALL_SPLITS)
def test_tfds_builder_holds_rendered_images(name, split, tmp_path):
    dataset = tfds.load(name, split=split, data_dir=tmp_path, as_supervised=True)
    images, labels = embedded.render(name, range(SMALL_SPLITS[split]), split=split)
    assert examples(dataset) == sorted((image.tobytes(), int(label)) for image, label in zip(images, labels))


def test_tfds_builder_names_configs_by_size_and_channels(tmp_path):
    config = EmbeddedConfig(image_size=48, channels=1)
    builder = tfds.builder("twins", data_dir=tmp_path, config=config)
    builder.download_and_prepare()
    assert builder.info.full_name == f"twins/48px_gray/{embedded.VERSION}"
    assert builder.info.features["image"].shape == (48, 48, 1)
    assert tfds.builder("mirror/64px", data_dir=tmp_path).info.features["image"].shape == (64, 64, 3)
    images = embedded.render("twins", range(20), split="test", image_size=48, channels=1)[0]
    stored = np.stack([example["image"] for example in tfds.as_numpy(builder.as_dataset(split="test"))])
    assert sorted(image.tobytes() for image in stored) == sorted(image.tobytes() for image in images)


def test_open_source_reads_prepared_embedded_data_set(tmp_path):
    tfds.load("mirror/64px", data_dir=tmp_path)
    source = open_small("mirror/64px", split="test", data_dir=str(tmp_path), image_size=64)
    assert (source.num_images, source.class_names) == (20, embedded.KINDS)
