"""Rendering of the embedded data sets."""

import numpy as np
import pytest

from sagan_tf.data import embedded
from sagan_tf.files.hashing import sha256_of_parts

# By the version of the data sets: published numbers and resumed runs depend on every pixel.
DIGESTS = {
    "1.0.0": {
        ("twins", "train", 32, 3): "e564b7f7cba762b9",
        ("twins", "test", 64, 1): "01b6da14a8d5f6e6",
        ("mirror", "train", 32, 3): "24b260c7592bb41f",
        ("mirror", "test", 48, 3): "400b680013bc59f3",
    },
}


@pytest.mark.parametrize("name, split, size, channels", DIGESTS[embedded.VERSION])
def test_images_of_a_version_are_unchanged(name, split, size, channels):
    images, labels = embedded.render(name, range(100), split=split, image_size=size, channels=channels)
    digest = sha256_of_parts([images, labels.astype(np.int32)])
    assert digest[:16] == DIGESTS[embedded.VERSION][name, split, size, channels]


@pytest.mark.parametrize("name", embedded.NAMES)
@pytest.mark.parametrize("size, channels", [(32, 3), (64, 1)])
def test_render_depends_only_on_the_index(name, size, channels):
    options = dict(image_size=size, channels=channels)
    images, labels = embedded.render(name, range(600), **options)
    few_images, few_labels = embedded.render(name, [599, 3], **options)
    np.testing.assert_array_equal(few_images, images[[599, 3]])
    np.testing.assert_array_equal(few_labels, labels[[599, 3]])
    assert set(labels) == {0, 1, 2, 3}
