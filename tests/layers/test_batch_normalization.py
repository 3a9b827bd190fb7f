"""Batch normalization with written-out gradients against Keras' own and NumPy float64."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_contract import CONTRACT, Subject
from layers.normalization_oracle import FAR_MEANS, keras_errors, normalization_errors
from layers.spectral_oracle import relative_error

from sagan_tf.layers import BatchNormalization, ConditionalBatchNormalization

SHAPES = [(6, 5, 4, 3), (6, 7, 3), (6, 3), (6, 2, 3, 2, 3)]


def noise(shape, seed=1):
    return np.random.default_rng(seed).normal(2, 3, shape)


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_batch_normalization_meets_contract(check, tmp_path):
    subject = Subject(
        make=lambda dtype: BatchNormalization(momentum=0.8, epsilon=1e-3, dtype=dtype),
        inputs=noise((6, 5, 4, 3)).astype("float32"),
        output_shape=(6, 5, 4, 3),
        trainable=2 * 3,
        non_trainable=2 * 3,
    )
    check(subject, tmp_path)


@pytest.mark.parametrize(
    "options", [{"momentum": 1.5}, {"momentum": -0.1}, {"epsilon": 0.0}, {"epsilon": np.nan}], ids=str
)
def test_batch_normalization_rejects_arguments_out_of_range(options):
    for make in (BatchNormalization, lambda **options: ConditionalBatchNormalization(3, **options)):
        with pytest.raises(ValueError, match="`momentum` must be at least 0 and below 1, and `epsilon` above 0"):
            make(**options)


def derivatives(layer, x):
    """Output, gradients of a non-quadratic loss, the gradient of their norm, moving statistics."""
    x, weights = tf.constant(x), [weight.value for weight in layer.trainable_weights]
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            output = layer(x, training=True)
            loss = tf.reduce_sum(tf.sin(output))
        first = inner.gradient(loss, [x, *weights])
        norm = sum(tf.reduce_sum(tf.square(one)) for one in first)
    return [output, *first, outer.gradient(norm, x), layer.moving_mean.value, layer.moving_variance.value]


@pytest.mark.parametrize("options", [{}, {"scale": False, "center": False}, {"synchronized": True}], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_normalization_matches_keras_with_two_derivatives(shape, options):
    classes = BatchNormalization, keras.layers.BatchNormalization
    layers = [make(epsilon=1e-3, dtype="float64", **options) for make in classes]
    for layer in layers:
        layer.build(shape)
    rng = np.random.default_rng(0)
    values = [np.abs(rng.normal(size=weight.shape)) for weight in layers[0].weights]
    for layer in layers:
        layer.set_weights(values)
    ours, keras_own = (derivatives(layer, noise(shape)) for layer in layers)
    for a, b in zip(ours, keras_own, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(layers[0](noise(shape)), layers[1](noise(shape)), atol=1e-12)


def test_batch_normalization_computes_bfloat16_in_float32():
    x = tf.cast(noise((8, 16, 16, 4)) + 20, tf.bfloat16)  # mean of 7 deviations: bfloat16 sums would be wrong
    layer = BatchNormalization(epsilon=1e-3, dtype="mixed_bfloat16")
    output = tf.cast(layer(x, training=True), tf.float64).numpy()
    exact = tf.cast(x, tf.float64).numpy()
    wanted = (exact - exact.mean((0, 1, 2))) / np.sqrt(exact.var((0, 1, 2)) + 1e-3)
    assert np.abs(output - wanted).max() < 2**-8 * np.abs(wanted).max()
    assert relative_error(layer.moving_mean, 0.01 * exact.mean((0, 1, 2))) < 1e-5


def test_batch_normalization_keeps_its_statistics_when_frozen():
    layer = BatchNormalization()
    layer.build((6, 5, 4, 3))
    layer.trainable = False
    before = layer.get_weights()
    x = noise((6, 5, 4, 3)).astype("float32")
    np.testing.assert_array_equal(layer(x, training=True), layer(x))
    for a, b in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_batch_normalization_accepts_maps_of_unknown_size():
    layer = BatchNormalization(dtype="float64")
    function = tf.function(
        lambda x: tf.gradients(layer(x, training=True) ** 3, x)[0],
        input_signature=[tf.TensorSpec((None, None, None, 3), tf.float64)],
    )
    layer.build((None, None, None, 3))
    x = tf.constant(noise((6, 5, 4, 3)))
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = layer(x, training=True) ** 3
    np.testing.assert_allclose(function(x), tape.gradient(output, x), atol=1e-10)


def test_batch_normalization_rejects_other_axis_than_the_last():
    with pytest.raises(ValueError, match="normalizes the last axis"):
        BatchNormalization(axis=1)


@pytest.mark.parametrize("make", [BatchNormalization, functools.partial(ConditionalBatchNormalization, 3)])
@pytest.mark.parametrize("dtype, rounding", [("float32", 0), ("mixed_bfloat16", 2**-6)])
@pytest.mark.parametrize("mean", FAR_MEANS)
def test_batch_normalization_is_as_exact_as_keras_when_mean_is_far(make, dtype, rounding, mean):
    # Gradients of a bfloat16 map are in bfloat16 from the start, those of Keras' layer at the end.
    errors = normalization_errors(make, mean, dtype)
    assert np.all(errors <= 1.01 * keras_errors(mean, dtype) + rounding * np.array([0, 1, 1]))


def test_batch_normalization_rejects_a_mask():
    """Padding would count in the statistics."""
    model = keras.Sequential([keras.layers.Embedding(5, 3, mask_zero=True), BatchNormalization()])
    with pytest.raises(ValueError, match="does not support masks"):
        model(np.array([[1, 2, 0, 0]]))
