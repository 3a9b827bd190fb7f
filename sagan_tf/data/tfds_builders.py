"""TensorFlow Datasets builders of the embedded data sets, for other projects; training renders them without files.

import sagan_tf.data.tfds_builders  # registers `twins` and `mirror`
tfds.load("twins")                  # 32 px
tfds.load("mirror/64px")
tfds.load("twins", builder_kwargs={"config": EmbeddedConfig(image_size=48, channels=1)})
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from sagan_tf.data import embedded

_CHUNK = 500


@dataclasses.dataclass
class EmbeddedConfig(tfds.core.BuilderConfig):
    """Image size and channels; they give the name, such as `64px` or `64px_gray`.

    Args:
        image_size: Height and width, S, 32 to 256 px.
        channels: 3, or 1 for gray.
    """

    name: str = ""
    image_size: int = 32
    channels: int = 3

    def __post_init__(self):
        self.name = f"{self.image_size}px" + ("_gray" if self.channels == 1 else "")
        self.description = f"{self.image_size} x {self.image_size} px, {self.channels} channel(s)"


class _Embedded(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Features `image`, uint8 (S, S, C), and `label`, the kind of shape."""

    VERSION = tfds.core.Version(embedded.VERSION)
    BUILDER_CONFIGS = [EmbeddedConfig(image_size=size) for size in (32, 64, 128, 256)]

    def _info(self):
        size, channels = self.builder_config.image_size, self.builder_config.channels
        return self.dataset_info_from_configs(
            description=embedded.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, channels), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(embedded.KINDS)),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://arxiv.org/abs/1805.08318",
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in embedded.SPLITS}

    def _generate_examples(self, split):
        size, channels = self.builder_config.image_size, self.builder_config.channels
        for start in range(0, embedded.SPLITS[split], _CHUNK):
            indices = np.arange(start, min(start + _CHUNK, embedded.SPLITS[split]))
            images, labels = embedded.render(self.name, indices, split=split, image_size=size, channels=channels)
            for index, image, label in zip(indices, images, labels):
                yield int(index), {"image": image, "label": int(label)}


class Twins(_Embedded):
    """Pairs of shapes that agree; see `sagan_tf.data.embedded`."""


class Mirror(_Embedded):
    """Columns of shapes and their mirror images; see `sagan_tf.data.embedded`."""
