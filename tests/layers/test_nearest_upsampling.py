"""Upsampling and its written-out gradient against NumPy."""

import keras
import numpy as np
import tensorflow as tf

from sagan_tf.layers import NearestUpsampling


def test_nearest_upsampling_copies_pixels_and_adds_their_gradients():
    rng = np.random.default_rng(0)
    x, upstream = rng.normal(size=(2, 3, 5, 4)), rng.normal(size=(2, 6, 10, 4))
    inputs = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        output = NearestUpsampling(dtype="float64")(inputs)
    np.testing.assert_array_equal(output, x.repeat(2, axis=1).repeat(2, axis=2))
    sums = upstream.reshape(2, 3, 2, 5, 2, 4).sum((2, 4))
    np.testing.assert_allclose(tape.gradient(output, inputs, tf.constant(upstream)), sums, atol=1e-12)


def test_nearest_upsampling_has_a_second_derivative():
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 3, 5, 4)))
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            loss = tf.reduce_sum(NearestUpsampling(dtype="float64")(x) ** 3)
        first = inner.gradient(loss, x)
    np.testing.assert_allclose(first, 4 * 3 * x**2)
    np.testing.assert_allclose(outer.gradient(first, x), 4 * 6 * x)


def test_nearest_upsampling_is_unchanged_by_save_and_load(tmp_path):
    image = keras.Input((3, 5, 4))
    model = keras.Model(image, NearestUpsampling()(image))
    assert model.output.shape == (None, 6, 10, 4)
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype("float32")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(x), model(x))


def test_nearest_upsampling_of_a_map_of_unknown_size():
    image = keras.Input((None, None, 4))
    model = keras.Model(image, NearestUpsampling()(image))
    assert model.output.shape == (None, None, None, 4)
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype("float32")
    upsample = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 4))])
    np.testing.assert_array_equal(upsample(x), x.repeat(2, axis=1).repeat(2, axis=2))
