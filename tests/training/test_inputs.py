"""Batches of real images: what is refused where the shape is known only when the step runs."""

import numpy as np
import pytest
import tensorflow as tf

from sagan_tf.training.inputs import check_batch


def test_check_batch_names_the_size_of_images_of_unknown_shape():
    @tf.function(input_signature=[tf.TensorSpec((None, None, None, None))])
    def check(image):
        return check_batch((image,), (8, 8, 3), None, 1)[0]

    assert check(np.zeros((2, 8, 8, 3), np.float32)).shape == (2, 8, 8, 3)
    for shape in ((2, 4, 8, 3), (2, 8, 8, 1), (2, 3, 8, 8)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"Images must be \(8, 8, 3\), as the networks"):
            check(np.zeros(shape, np.float32))


@pytest.mark.parametrize("labels", [[0.5, 1.0], [np.nan, 1.0], [2**32, 1]])
def test_check_batch_rejects_labels_that_a_cast_would_change(labels):
    images = np.zeros((2, 8, 8, 3), np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="whole numbers in 0 .. 2"):
        check_batch((images, np.array(labels)), (8, 8, 3), 3, 1)
    assert check_batch((images, np.array([1.0, 2.0])), (8, 8, 3), 3, 1)[1].numpy().tolist() == [1, 2]
