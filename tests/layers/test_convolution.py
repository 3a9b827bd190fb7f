"""The Conv2D layer; its kernels are tested in tests/accelerate/test_convolution.py."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_contract import CONTRACT, Subject, training_call_moves_the_state_and_no_trainable_weight

from sagan_tf.layers import Conv2D


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# Without the check that a training call moves the state: there is none.
STATELESS = [check for check in CONTRACT if check is not training_call_moves_the_state_and_no_trainable_weight]


@pytest.mark.parametrize("resampling, size", [(None, 4), ("up", 8)])
@pytest.mark.parametrize("check", STATELESS, ids=lambda check: check.__name__)
def test_conv2d_meets_contract(check, resampling, size, tmp_path):
    subject = Subject(
        make=lambda dtype: Conv2D(5, 3, padding="same", resampling=resampling, dtype=dtype),
        inputs=noise(2, 4, 4, 3).astype("float32"),
        output_shape=(2, size, size, 5),
        trainable=3 * 3 * 3 * 5 + 5,
        non_trainable=0,
    )
    check(subject, tmp_path)


@pytest.mark.parametrize(
    "options", [{"strides": 2}, {"dilation_rate": 2}, {"padding": "valid"}, {"groups": 2}, {"kernel_size": 2}], ids=str
)
def test_conv2d_equals_keras_with_other_options(options):
    options = {"filters": 4, "kernel_size": 3, "padding": "same", "dtype": "mixed_bfloat16", **options}
    ours, keras_own = Conv2D(**options), keras.layers.Conv2D(**options)
    x = noise(2, 4, 4, 6).astype("float32")
    for layer in (ours, keras_own):
        layer.build(x.shape)
    keras_own.set_weights(ours.get_weights())
    np.testing.assert_array_equal(tf.cast(ours(x), tf.float32), tf.cast(keras_own(x), tf.float32))


@pytest.mark.parametrize("size, kernel", [(4, 3), (8, 3), (4, 1)])
def test_conv2d_weights_in_bfloat16_have_gradients(size, kernel):
    layer = Conv2D(4, kernel, padding="same", dtype="bfloat16")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(noise(2, size, size, 3)))
    assert np.any(tf.cast(tape.gradient(loss, layer.kernel.value), tf.float32) != 0)


def test_conv2d_rejects_maps_of_integers():
    with pytest.raises(ValueError, match="floating point. Received: int32"):
        Conv2D(4, 3, padding="same")(np.ones((2, 4, 4, 3), "int32"))


def test_conv2d_accepts_maps_of_unknown_size():
    layer = Conv2D(4, 3, padding="same", dtype="mixed_bfloat16")
    model = keras.Model(image := keras.Input((None, None, 3)), layer(image))
    assert model(noise(2, 4, 6, 3).astype("float32")).shape == (2, 4, 6, 4)


@pytest.mark.parametrize(
    "options",
    [
        {"resampling": "sideways"}, {"resampling": "up", "strides": 2}, {"resampling": "down", "padding": "valid"},
        {"resampling": "up", "data_format": "channels_first"}, {"resampling": "down", "activation": "relu"},
    ],
    ids=str,
)  # fmt: skip
def test_conv2d_rejects_resampling_with_other_options(options):
    with pytest.raises(ValueError, match="`resampling`"):
        Conv2D(**{"filters": 4, "kernel_size": 3, "padding": "same", **options})


def test_conv2d_resamples_maps_of_unknown_size():
    layer = Conv2D(4, 3, padding="same", resampling="down")
    model = keras.Model(image := keras.Input((None, None, 3)), layer(image))
    assert model.output.shape == (None, None, None, 4)
    assert model(noise(2, 6, 10, 3)).shape == (2, 3, 5, 4)
