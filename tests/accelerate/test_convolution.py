"""Convolution kernels against NumPy float64 and TensorFlow's own, to the second derivative, and when they are used."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from layers.spectral_oracle import relative_error

from sagan_tf.accelerate import convolution as kernels
from sagan_tf.accelerate import registry
from sagan_tf.layers import Conv2D

PRODUCTS = (kernels.convolve_small, kernels.convolve_medium)


@pytest.fixture
def used(monkeypatch):
    """Names of the default kernels that ran, in order."""
    names = []
    for name, (run, supports) in dict(registry._defaults).items():
        spy = registry.Kernel(lambda *arguments, name=name, run=run: names.append(name) or run(*arguments), supports)
        monkeypatch.setitem(registry._defaults, name, spy)
    return names


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def oracle(x, kernel):
    """Convolves pixel by pixel with zero padding."""
    rows, columns = kernel.shape[:2]
    padded = np.pad(x, ((0, 0), (rows // 2,) * 2, (columns // 2,) * 2, (0, 0)))
    result = np.zeros((*x.shape[:3], kernel.shape[-1]))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            result[:, i, j] = np.einsum("bijc,ijcf->bf", padded[:, i : i + rows, j : j + columns], kernel)
    return result


def derivatives(convolve, x, kernel):
    """The output, the gradients of a non-quadratic loss, and the gradients of their norm."""
    x, kernel = tf.constant(x), tf.constant(kernel)
    with tf.GradientTape() as outer:
        outer.watch([x, kernel])
        with tf.GradientTape() as inner:
            inner.watch([x, kernel])
            output = convolve(x, kernel)
            loss = tf.reduce_sum(tf.sin(output))
        first = inner.gradient(loss, [x, kernel])
        norm = sum(tf.reduce_sum(tf.square(one)) for one in first)
    return [output, *first, *outer.gradient(norm, [x, kernel])]


@settings(max_examples=20)
@given(
    convolve=st.sampled_from(PRODUCTS),
    size=st.tuples(*[st.integers(1, 6)] * 2),
    kernel=st.tuples(*[st.sampled_from((1, 3, 5))] * 2),
    widths=st.tuples(*[st.integers(1, 4)] * 2),
)
def test_convolution_products_match_value_and_two_derivatives(convolve, size, kernel, widths):
    x, weights = noise(2, *size, widths[0]), noise(*kernel, *widths, seed=1)
    got = derivatives(convolve, x, weights)
    want = derivatives(lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"), x, weights)
    np.testing.assert_allclose(got[0], oracle(x, weights), atol=1e-12)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size, kernel", [(4, 3), (4, 1), (8, 3), (8, 5), (16, 3), (16, 1)])
def test_convolution_products_in_bfloat16_are_as_exact_as_keras(size, kernel):
    x, upstream = noise(4, size, size, 32), noise(4, size, size, 16, seed=2)
    weights = noise(kernel, kernel, 32, 16, seed=1)

    def errors(make):
        layer = make(16, kernel, padding="same", use_bias=False, dtype="mixed_bfloat16")
        layer.build(x.shape)
        layer.set_weights([weights])
        inputs = tf.constant(x, tf.bfloat16)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = layer(inputs)
        gradients = tape.gradient(output, [inputs, layer.kernel.value], tf.constant(upstream, tf.bfloat16))
        return [relative_error(tf.cast(a, tf.float64), b) for a, b in zip([output, *gradients], exact, strict=True)]

    rounded = [tf.cast(tf.cast(one, tf.bfloat16), tf.float64) for one in (x, weights, upstream)]
    with tf.GradientTape() as tape:
        tape.watch(rounded[:2])
        output = tf.nn.conv2d(*rounded[:2], 1, "SAME")
    exact = [output, *tape.gradient(output, rounded[:2], rounded[2])]
    for ours, keras_own in zip(errors(Conv2D), errors(keras.layers.Conv2D), strict=True):
        assert ours < 1.5 * keras_own + 2**-9


@pytest.mark.parametrize(
    "size, kernel, expected",
    [(4, 3, ["convolve"]), (8, 3, ["convolve"]), (16, 1, ["convolve"]), (16, 3, [])],
)
def test_convolution_products_are_selected_by_size_and_dtype(size, kernel, expected, used):
    for dtype in ("mixed_bfloat16", "float32"):
        Conv2D(4, kernel, padding="same", use_bias=False, dtype=dtype)(noise(2, size, size, 3).astype("float32"))
    assert used == expected


@pytest.mark.parametrize("size, name", [(4, "convolve_small"), (8, "convolve_medium")])
def test_convolve_uses_products_for_all_gradients_of_smallest_maps(size, name, monkeypatch):
    called = []
    for one in PRODUCTS:
        monkeypatch.setattr(kernels, one.__name__, lambda x, w, one=one: called.append(one.__name__) or one(x, w))
    kernels.convolve(tf.cast(noise(2, size, size, 3), tf.bfloat16), tf.cast(noise(3, 3, 3, 4), tf.bfloat16))
    assert called == [name]


@pytest.mark.parametrize("run_eagerly", [True, False])
@pytest.mark.parametrize(
    "size, kernel, options",
    [
        (32, 3, {}), (8, 3, {}), (4, 3, {}), (32, 1, {}), (16, 3, dict(resampling="up")),
        (32, 3, dict(resampling="down")), (32, 3, dict(strides=2)),
    ],
)  # fmt: skip
def test_bias_gradient_in_bfloat16_is_summed_in_float32(size, kernel, options, run_eagerly):
    layer = Conv2D(8, kernel, padding="same", dtype="mixed_bfloat16", **options)
    x = tf.constant(noise(16, size, size, 4), tf.bfloat16)
    shape = layer(x).shape
    # Thousands of numbers of one sign: each is below the resolution of their sum in bfloat16.
    upstream = tf.constant(1 + noise(*shape), tf.bfloat16)

    def gradient():
        with tf.GradientTape() as tape:
            output = layer(x)
        return tape.gradient(output, layer.bias.value, upstream)

    found = (gradient if run_eagerly else tf.function(gradient))()
    want = np.array(tf.cast(upstream, tf.float64)).sum((0, 1, 2))
    np.testing.assert_allclose(tf.cast(found, tf.float64), want, rtol=2**-7)


def doubled(x):
    return tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)


def averaged(x):
    batch, height, width, channels = x.shape
    return tf.reduce_mean(tf.reshape(x, (batch, height // 2, 2, width // 2, 2, channels)), axis=(2, 4))


PLAIN = {
    "up": lambda x, w: tf.nn.conv2d(doubled(x), w, 1, "SAME"),
    "down": lambda x, w: averaged(tf.nn.conv2d(x, w, 1, "SAME")),
}
RESAMPLING = {"up": kernels.convolve_upsampled, "down": kernels.convolve_and_pool}


@settings(max_examples=20)
@given(
    resampling=st.sampled_from(("up", "down")),
    halves=st.tuples(*[st.integers(1, 5)] * 2),
    widths=st.tuples(*[st.integers(1, 4)] * 2),
)
def test_resampling_kernels_match_value_and_two_derivatives(resampling, halves, widths):
    x, weights = noise(2, *[2 * half for half in halves], widths[0]), noise(3, 3, *widths, seed=1)
    got, want = (derivatives(convolve[resampling], x, weights) for convolve in (RESAMPLING, PLAIN))
    by_hand = averaged(tf.constant(oracle(x, weights))) if resampling == "down" else oracle(doubled(x).numpy(), weights)
    np.testing.assert_allclose(got[0], by_hand, atol=1e-12)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("resampling", ["up", "down"])
def test_resampling_layer_is_close_to_float64(resampling, dtype):
    size = 16 if resampling == "up" else 32
    x, weights = noise(2, size, size, 8), noise(3, 3, 8, 4, seed=1)
    dtypes = {"mixed_bfloat16": tf.bfloat16, "float32": tf.float32}
    rounded = [tf.cast(tf.cast(one, dtypes[dtype]), tf.float64) for one in (x, weights)]
    layer = Conv2D(4, 3, padding="same", resampling=resampling, dtype=dtype, bias_initializer="ones")
    assert tuple(layer.compute_output_shape(x.shape)) == tuple(layer(tf.constant(x, dtypes[dtype])).shape)
    layer.set_weights([weights, np.ones(4)])

    def gradients(convolve, x, *kernel):
        with tf.GradientTape() as tape:
            tape.watch([x, *kernel])
            output = convolve(x, *kernel)
            loss = tf.reduce_sum(output**2)
        weight = kernel[0] if kernel else layer.kernel.value
        return [tf.cast(one, tf.float64) for one in (output, *tape.gradient(loss, [x, weight]))]

    got = gradients(layer, tf.constant(x, dtypes[dtype]))
    want = gradients(lambda x, w: PLAIN[resampling](x, w) + 1, *rounded)
    for a, b in zip(got, want, strict=True):
        assert relative_error(a, b) < {"float32": 1e-5, "mixed_bfloat16": 2e-2}[dtype]


@pytest.mark.parametrize(
    "resampling, size, dtype, joined",
    [
        ("up", 8, "mixed_bfloat16", False), ("up", 16, "mixed_bfloat16", True), ("up", 4, "float32", True),
        ("down", 16, "mixed_bfloat16", False), ("down", 32, "mixed_bfloat16", True), ("down", 8, "float32", True),
        ("up", 2, "float32", False), ("down", 6, "float32", False), ("down", 9, "float32", False),
        ("up", 16, "float64", False),
    ],
)  # fmt: skip
def test_resampling_kernels_are_selected_by_size_and_dtype(resampling, size, dtype, joined, used):
    layer = Conv2D(4, 3, padding="same", resampling=resampling, dtype=dtype)
    x = noise(2, size, size, 3).astype("float32")
    output = tf.cast(layer(x), tf.float64)
    name = {"up": "convolve_upsampled", "down": "convolve_and_pool"}[resampling]
    assert (name in used) == joined
    if size % 2 == 0 or resampling == "up":
        plain = PLAIN[resampling](tf.constant(x, tf.float64), tf.cast(layer.kernel.value, tf.float64))
        assert relative_error(output, plain) < 2e-2
