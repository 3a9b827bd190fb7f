"""Rendering of the embedded data sets."""

import numpy as np
import pytest

from sagan_tf.data import embedded


@pytest.mark.parametrize("name", embedded.NAMES)
@pytest.mark.parametrize("size, channels", [(32, 3), (64, 1)])
def test_render_depends_only_on_the_index(name, size, channels):
    options = dict(image_size=size, channels=channels)
    images, labels = embedded.render(name, range(600), **options)
    few_images, few_labels = embedded.render(name, [599, 3], **options)
    np.testing.assert_array_equal(few_images, images[[599, 3]])
    np.testing.assert_array_equal(few_labels, labels[[599, 3]])
    assert set(labels) == {0, 1, 2, 3}
