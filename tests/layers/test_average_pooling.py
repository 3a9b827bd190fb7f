"""AveragePooling against NumPy, and as the operation that it stands for."""

import keras
import numpy as np
import pytest
from keras import ops

from sagan_tf.layers import AveragePooling


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_means_of_four_pixels(dtype):
    x = np.random.default_rng(0).normal(size=(3, 6, 8, 5)).astype(dtype)
    want = x.reshape(3, 3, 2, 4, 2, 5).mean((2, 4))
    np.testing.assert_allclose(AveragePooling()(ops.convert_to_tensor(x)), want, rtol=1e-5, atol=1e-6)


def test_a_model_with_it_is_saved_and_loaded(tmp_path):
    image = keras.Input((8, None, 3))
    model = keras.Model(image, AveragePooling()(image))
    assert model.output.shape == (None, 4, None, 3)
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(2, 8, 6, 3)).astype("float32")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(x), model(x))
