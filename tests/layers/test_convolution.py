"""Convolutions by matrix products, and at once with a resampling, against NumPy float64 and TensorFlow's own, to the
second derivative."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_contract import CONTRACT, Subject, training_call_moves_the_state_and_no_trainable_weight
from layers.spectral_oracle import relative_error

from sagan_tf.layers import Conv2D
from sagan_tf.layers import convolution as module

WAYS = (module.convolve_by_products, module.convolve_with_kernel_gradient_by_products)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def oracle(x, kernel):
    """Pixel by pixel, with zeros around."""
    rows, columns = kernel.shape[:2]
    padded = np.pad(x, ((0, 0), (rows // 2,) * 2, (columns // 2,) * 2, (0, 0)))
    result = np.zeros((*x.shape[:3], kernel.shape[-1]))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            result[:, i, j] = np.einsum("bijc,ijcf->bf", padded[:, i : i + rows, j : j + columns], kernel)
    return result


def derivatives(convolve, x, kernel):
    """The output, the gradients of a loss that is no quadric, and the gradients of their norm."""
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


# But that a training call moves the state: there is none.
STATELESS = [check for check in CONTRACT if check is not training_call_moves_the_state_and_no_trainable_weight]


@pytest.mark.parametrize("check", STATELESS, ids=lambda check: check.__name__)
def test_contract(check, tmp_path):
    subject = Subject(
        make=lambda dtype: Conv2D(5, 3, padding="same", dtype=dtype),
        inputs=noise(2, 4, 4, 3).astype("float32"),
        output_shape=(2, 4, 4, 5),
        trainable=3 * 3 * 3 * 5 + 5,
        non_trainable=0,
    )
    check(subject, tmp_path)


@settings(max_examples=20, deadline=None)
@given(
    way=st.sampled_from(WAYS),
    size=st.tuples(*[st.integers(1, 6)] * 2),
    kernel=st.tuples(*[st.sampled_from((1, 3, 5))] * 2),
    widths=st.tuples(*[st.integers(1, 4)] * 2),
)
def test_values_and_two_derivatives_are_those_of_a_convolution(way, size, kernel, widths):
    x, weights = noise(2, *size, widths[0]), noise(*kernel, *widths, seed=1)
    got = derivatives(way, x, weights)
    want = derivatives(lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"), x, weights)
    np.testing.assert_allclose(got[0], oracle(x, weights), atol=1e-12)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size, kernel", [(4, 3), (4, 1), (8, 3), (8, 5), (16, 3), (16, 1)])
def test_bfloat16_is_as_close_to_float64_as_keras_own(size, kernel):
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
    "size, kernel, way",
    [(4, 3, "convolve_by_products"), (8, 3, "convolve_with_kernel_gradient_by_products"), (16, 3, None), (16, 1, None)],
)
def test_the_way_is_chosen_by_size_and_dtype(size, kernel, way, monkeypatch):
    seen = []
    for one in WAYS:
        monkeypatch.setattr(module, one.__name__, lambda x, w, one=one: seen.append(one.__name__) or one(x, w))
    for dtype in ("mixed_bfloat16", "float32"):
        Conv2D(4, kernel, padding="same", dtype=dtype)(noise(2, size, size, 3).astype("float32"))
    assert seen == ([] if way is None else [way])


@pytest.mark.parametrize("run_eagerly", [True, False])
@pytest.mark.parametrize(
    "size, kernel, options",
    [
        (32, 3, {}), (8, 3, {}), (4, 3, {}), (32, 1, {}), (16, 3, dict(resampling="up")),
        (32, 3, dict(resampling="down")), (32, 3, dict(strides=2)),
    ],
)  # fmt: skip
def test_gradient_of_a_bias_in_bfloat16_is_a_sum_in_float32(size, kernel, options, run_eagerly):
    layer = Conv2D(8, kernel, padding="same", dtype="mixed_bfloat16", **options)
    x = tf.constant(noise(16, size, size, 4), tf.bfloat16)
    shape = layer(x).shape
    # Thousands of numbers of one sign: each is below the last digit of a sum of them in bfloat16.
    upstream = tf.constant(1 + noise(*shape), tf.bfloat16)

    def gradient():
        with tf.GradientTape() as tape:
            output = layer(x)
        return tape.gradient(output, layer.bias.value, upstream)

    found = (gradient if run_eagerly else tf.function(gradient))()
    want = np.array(tf.cast(upstream, tf.float64)).sum((0, 1, 2))
    np.testing.assert_allclose(tf.cast(found, tf.float64), want, rtol=2**-7)


@pytest.mark.parametrize(
    "options", [{"strides": 2}, {"dilation_rate": 2}, {"padding": "valid"}, {"groups": 2}, {"kernel_size": 2}], ids=str
)
def test_what_does_not_fit_is_left_to_keras(options):
    options = {"filters": 4, "kernel_size": 3, "padding": "same", "dtype": "mixed_bfloat16", **options}
    ours, keras_own = Conv2D(**options), keras.layers.Conv2D(**options)
    x = noise(2, 4, 4, 6).astype("float32")
    for layer in (ours, keras_own):
        layer.build(x.shape)
    keras_own.set_weights(ours.get_weights())
    np.testing.assert_array_equal(tf.cast(ours(x), tf.float32), tf.cast(keras_own(x), tf.float32))


@pytest.mark.parametrize("size, kernel", [(4, 3), (8, 3), (4, 1)])
def test_weights_in_bfloat16_have_gradients(size, kernel):
    layer = Conv2D(4, kernel, padding="same", dtype="bfloat16")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(noise(2, size, size, 3)))
    assert np.any(tf.cast(tape.gradient(loss, layer.kernel.value), tf.float32) != 0)


def test_a_map_of_unknown_size_is_left_to_keras():
    layer = Conv2D(4, 3, padding="same", dtype="mixed_bfloat16")
    model = keras.Model(image := keras.Input((None, None, 3)), layer(image))
    assert model(noise(2, 4, 6, 3).astype("float32")).shape == (2, 4, 6, 4)


def doubled(x):
    return tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)


def averaged(x):
    batch, height, width, channels = x.shape
    return tf.reduce_mean(tf.reshape(x, (batch, height // 2, 2, width // 2, 2, channels)), axis=(2, 4))


PLAIN = {
    "up": lambda x, w: tf.nn.conv2d(doubled(x), w, 1, "SAME"),
    "down": lambda x, w: averaged(tf.nn.conv2d(x, w, 1, "SAME")),
}
AT_ONCE = {"up": module.convolve_upsampled, "down": module.convolve_and_average}


@settings(max_examples=20, deadline=None)
@given(
    resampling=st.sampled_from(("up", "down")),
    halves=st.tuples(*[st.integers(1, 5)] * 2),
    widths=st.tuples(*[st.integers(1, 4)] * 2),
)
def test_resampling_at_once_has_values_and_two_derivatives_of_one_after_the_other(resampling, halves, widths):
    x, weights = noise(2, *[2 * half for half in halves], widths[0]), noise(3, 3, *widths, seed=1)
    got, want = (derivatives(ways[resampling], x, weights) for ways in (AT_ONCE, PLAIN))
    by_hand = averaged(tf.constant(oracle(x, weights))) if resampling == "down" else oracle(doubled(x).numpy(), weights)
    np.testing.assert_allclose(got[0], by_hand, atol=1e-12)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("resampling", ["up", "down"])
def test_resampling_layer_is_as_close_to_float64_as_two_layers(resampling, dtype):
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
    "resampling, size, dtype, at_once",
    [
        ("up", 8, "mixed_bfloat16", False), ("up", 16, "mixed_bfloat16", True), ("up", 4, "float32", True),
        ("down", 16, "mixed_bfloat16", False), ("down", 32, "mixed_bfloat16", True), ("down", 8, "float32", True),
        ("up", 2, "float32", False), ("down", 6, "float32", False), ("down", 9, "float32", False),
        ("up", 16, "float64", False),
    ],
)  # fmt: skip
def test_resampling_at_once_is_chosen_by_size_and_dtype(resampling, size, dtype, at_once, monkeypatch):
    seen = []
    for name, way in AT_ONCE.items():
        monkeypatch.setattr(module, way.__name__, lambda x, w, name=name, way=way: seen.append(name) or way(x, w))
    layer = Conv2D(4, 3, padding="same", resampling=resampling, dtype=dtype)
    x = noise(2, size, size, 3).astype("float32")
    output = tf.cast(layer(x), tf.float64)
    assert seen == ([resampling] if at_once else [])
    if size % 2 == 0 or resampling == "up":
        plain = PLAIN[resampling](tf.constant(x, tf.float64), tf.cast(layer.kernel.value, tf.float64))
        assert relative_error(output, plain) < 2e-2


@pytest.mark.parametrize(
    "options",
    [
        {"resampling": "sideways"}, {"resampling": "up", "strides": 2}, {"resampling": "down", "padding": "valid"},
        {"resampling": "up", "data_format": "channels_first"}, {"resampling": "down", "activation": "relu"},
    ],
    ids=str,
)  # fmt: skip
def test_resampling_that_cannot_be_is_refused(options):
    with pytest.raises(ValueError, match="`resampling`"):
        Conv2D(**{"filters": 4, "kernel_size": 3, "padding": "same", **options})


@pytest.mark.parametrize("check", STATELESS, ids=lambda check: check.__name__)
def test_contract_of_resampling(check, tmp_path):
    subject = Subject(
        make=lambda dtype: Conv2D(5, 3, padding="same", resampling="up", dtype=dtype),
        inputs=noise(2, 4, 4, 3).astype("float32"),
        output_shape=(2, 8, 8, 5),
        trainable=3 * 3 * 3 * 5 + 5,
        non_trainable=0,
    )
    check(subject, tmp_path)


def test_resampling_of_a_map_of_unknown_size():
    layer = Conv2D(4, 3, padding="same", resampling="down")
    model = keras.Model(image := keras.Input((None, None, 3)), layer(image))
    assert model.output.shape == (None, None, None, 4)
    assert model(noise(2, 6, 10, 3)).shape == (2, 3, 5, 4)
