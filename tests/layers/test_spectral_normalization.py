"""SpectralNormalization against a NumPy float64 oracle of Miyato et al. 2018, and its invariants."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from sagan_tf.layers import SelfAttention, SpectralNormalization, spectral_normalizations

# layer, input shape, axes of the kernel that count the outputs
CASES = {
    "dense": (lambda **k: layers.Dense(5, **k), (3, 7), (-1,)),
    "conv1d": (lambda **k: layers.Conv1D(5, 3, **k), (2, 9, 4), (-1,)),
    "conv2d": (lambda **k: layers.Conv2D(5, 3, **k), (2, 6, 6, 4), (-1,)),
    "conv3d": (lambda **k: layers.Conv3D(3, 2, **k), (2, 4, 4, 4, 2), (-1,)),
    "transposed": (lambda **k: layers.Conv2DTranspose(5, 3, **k), (2, 6, 6, 4), (-2,)),
    "depthwise": (lambda **k: layers.DepthwiseConv2D(3, depth_multiplier=2, **k), (2, 6, 6, 4), (-2, -1)),
}


def as_matrix(kernel, axes):
    moved = np.moveaxis(kernel, axes, range(len(axes)))
    return moved.reshape(int(np.prod(moved.shape[: len(axes)])), -1)


def from_matrix(matrix, like, axes):
    moved = np.moveaxis(like, axes, range(len(axes)))
    return np.moveaxis(matrix.reshape(moved.shape), range(len(axes)), axes)


def oracle(kernel, u, axes, upstream, iterations=1):
    """W / sigma and dL/dW (equation 12) for dL/d(W / sigma) = upstream, in float64."""
    w, g = (as_matrix(x.astype(np.float64), axes) for x in (kernel, upstream))
    u = u.astype(np.float64)
    for _ in range(iterations):
        v = w.T @ u
        v /= np.linalg.norm(v)
        u = w @ v
        u /= np.linalg.norm(u)
    sigma = u @ w @ v
    gradient = (g - np.sum(g * w) / sigma * np.outer(u, v)) / sigma
    return from_matrix(w / sigma, kernel, axes), from_matrix(gradient, kernel, axes), u


def normalized_and_gradient(layer, x, upstream):
    kernel = layer.layer.kernel
    with tf.GradientTape() as tape:
        (normalized,) = layer._normalized_kernels()
        loss = ops.sum(normalized * upstream)
    return np.array(normalized), np.array(tape.gradient(loss, kernel.value))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("iterations", [1, 3])
def test_kernel_and_gradient_match_numpy_float64(case, iterations):
    make, shape, axes = CASES[case]
    rng = np.random.default_rng(0)
    layer = SpectralNormalization(make(use_bias=False), power_iterations=iterations)
    layer.build(shape)
    kernel, u = layer.layer.kernel.numpy(), layer.u.numpy()
    upstream = rng.normal(size=kernel.shape).astype("float32")
    got, got_gradient = normalized_and_gradient(layer, None, upstream)
    want, want_gradient, _ = oracle(kernel, u, axes, upstream, iterations)
    # float32 arithmetic on sums of at most a few hundred products: 1e-5 of the largest entry.
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())
    np.testing.assert_allclose(got_gradient, want_gradient, atol=1e-5 * np.abs(want_gradient).max())


@settings(max_examples=25, deadline=None)
@given(
    inputs=st.integers(1, 12), units=st.integers(1, 12), iterations=st.integers(1, 5), seed=st.integers(0, 2**31 - 1)
)
def test_dense_output_matches_oracle_for_any_shape(inputs, units, iterations, seed):
    rng = np.random.default_rng(seed)
    layer = SpectralNormalization(layers.Dense(units, use_bias=False), power_iterations=iterations)
    layer.build((None, inputs))
    kernel, u = rng.normal(size=(2, inputs, units))[0], rng.normal(size=units)
    layer.layer.kernel.assign(kernel)
    layer.u.assign(u)
    x = rng.normal(size=(4, inputs)).astype("float32")
    want, _, want_u = oracle(kernel, u, (-1,), kernel, iterations)
    np.testing.assert_allclose(layer(x, training=True), x @ want, atol=2e-5 * np.abs(x @ want).max())
    np.testing.assert_allclose(layer.u, want_u, atol=1e-4)


def test_gradient_through_the_layer_is_orthogonal_to_the_kernel():
    layer = SpectralNormalization(layers.Conv2D(8, 3))
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype("float32")
    layer(x)
    with tf.GradientTape() as tape:
        loss = ops.sum(ops.square(layer(x, training=True)))
    gradient = tape.gradient(loss, layer.layer.kernel.value).numpy()
    kernel = layer.layer.kernel.numpy()
    cosine = np.sum(gradient * kernel) / np.linalg.norm(gradient) / np.linalg.norm(kernel)
    assert abs(cosine) < 1e-5
    assert np.linalg.norm(gradient) > 1


@pytest.mark.parametrize("case", CASES)
def test_largest_singular_value_is_one_after_many_calls(case):
    make, shape, axes = CASES[case]
    layer = SpectralNormalization(make())
    x = np.ones(shape, "float32")
    for _ in range(300):
        layer(x, training=True)
    kernel = layer.layer.kernel.numpy()
    assert float(layer.sigma()) == pytest.approx(np.linalg.norm(as_matrix(kernel, axes), 2), rel=1e-4)
    assert np.linalg.norm(as_matrix(layer.fold().weights[0].numpy(), axes), 2) == pytest.approx(1, rel=1e-4)


def test_training_keeps_the_raw_kernel_and_moves_u_once_a_call():
    layer = SpectralNormalization(layers.Dense(4))
    x = np.ones((2, 3), "float32")
    layer(x)
    kernel, u = layer.layer.kernel.numpy(), layer.u.numpy()
    layer(x, training=True)
    np.testing.assert_array_equal(layer.layer.kernel.numpy(), kernel)
    np.testing.assert_allclose(layer.u.numpy(), oracle(kernel, u, (-1,), kernel)[2], atol=1e-5)


def test_inference_moves_nothing_and_computes_what_training_does():
    layer = SpectralNormalization(layers.Dense(4))
    x = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    before = [weight.numpy() for weight in (layer(x), layer)[1].weights]
    inference = layer(x, training=False)
    for weight, value in zip(layer.weights, before):
        np.testing.assert_array_equal(weight.numpy(), value)
    np.testing.assert_array_equal(layer(x, training=True), inference)


@pytest.mark.parametrize("scale", [0.0, 1e-8, 1e10])
def test_zero_tiny_and_huge_kernels_are_finite_and_keep_u(scale):
    layer = SpectralNormalization(layers.Dense(4, use_bias=False))
    x = np.ones((2, 3), "float32")
    layer(x)
    layer.layer.kernel.assign(layer.layer.kernel * scale)
    with tf.GradientTape() as tape:
        loss = ops.sum(layer(x, training=True))
    assert np.isfinite(tape.gradient(loss, layer.layer.kernel.value)).all()
    assert np.linalg.norm(layer.u) > 0.1
    limit = 0 if scale == 0 else 1
    assert np.linalg.norm(layer._normalized_kernels()[0], 2) >= limit * 0.5


def test_sigma_is_float32_under_mixed_bfloat16():
    rng = np.random.default_rng(0)
    layer = SpectralNormalization(layers.Dense(64, dtype="mixed_bfloat16", use_bias=False))
    x = rng.normal(size=(2, 64)).astype("float32")
    assert layer(x, training=True).dtype == tf.bfloat16
    kernel, u = layer.layer.kernel.numpy(), layer.u.numpy()
    want = oracle(kernel, u, (-1,), kernel)
    assert kernel.dtype == np.float32
    # bfloat16 has 8 bits: a sigma of that precision would miss by about 1e-3.
    assert float(layer.sigma()) == pytest.approx(float(kernel.ravel()[0] / want[0].ravel()[0]), rel=1e-5)
    sublayer_of = keras.Sequential([keras.Input((64,)), layer], name="outer")
    sublayer_of(x, training=True)
    np.testing.assert_array_equal(layer.layer.kernel.numpy(), kernel)


def test_embedding_is_normalized_by_its_rows():
    layer = SpectralNormalization(layers.Embedding(10, 4))
    assert layer(np.array([[1, 2], [3, 4]])).shape == (2, 2, 4)
    assert layer.u.shape == (10,)
    for _ in range(200):
        layer.update_u()
    assert float(layer.sigma()) == pytest.approx(np.linalg.norm(layer.layer.embeddings.numpy(), 2), rel=1e-4)


def test_every_kernel_of_a_layer_is_normalized():
    separable = SpectralNormalization(layers.SeparableConv2D(3, 3))
    separable(np.ones((1, 5, 5, 2), "float32"))
    recurrent = SpectralNormalization(layers.LSTM(3))
    recurrent(np.ones((1, 5, 2), "float32"))
    assert len(separable.vectors) == len(recurrent.vectors) == 2


@pytest.mark.parametrize("case", CASES)
def test_fold_is_the_same_plain_layer(case):
    make, shape, _ = CASES[case]
    layer = SpectralNormalization(make())
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    layer(x, training=True)
    plain = layer.fold()
    assert type(plain) is type(layer.layer)
    np.testing.assert_array_equal(plain(x), layer(x))


def test_fold_needs_a_built_layer():
    with pytest.raises(ValueError, match="needs a built layer"):
        SpectralNormalization(layers.Dense(3)).fold()


def test_losses_of_the_wrapped_layer_are_kept():
    layer = SpectralNormalization(layers.Dense(3, kernel_regularizer="l2", activity_regularizer="l2"))
    layer(np.ones((2, 4), "float32"), training=True)
    assert len(layer.losses) == 2


def test_saved_model_computes_the_same(tmp_path):
    inputs = keras.Input((6, 6, 3))
    model = keras.Model(inputs, SpectralNormalization(layers.Conv2D(4, 3), power_iterations=2, epsilon=1e-8)(inputs))
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype("float32")
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert (loaded.layers[-1].power_iterations, loaded.layers[-1].epsilon) == (2, 1e-8)


def test_fit_trains_and_compiles_with_xla():
    model = keras.Sequential([keras.Input((3,)), SpectralNormalization(layers.Dense(1))])
    model.compile("sgd", "mse", jit_compile=True)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3)).astype("float32")
    y = 0.5 * x[:, :1]
    losses = model.fit(x, y, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_all_normalized_layers_of_a_model_are_found():
    inputs = keras.Input((8, 8, 16))
    x = SelfAttention(name="attention")(inputs)
    model = keras.Model(inputs, SpectralNormalization(layers.Conv2D(2, 1), name="last")(x))
    names = {"attention/query", "attention/key", "attention/value", "attention/projection", "last"}
    assert set(spectral_normalizations(model)) == names


@pytest.mark.parametrize("arguments", [{"power_iterations": 0}, {"power_iterations": 1.5}, {"epsilon": 0}])
def test_rejects_arguments_out_of_range(arguments):
    with pytest.raises(ValueError, match="Received"):
        SpectralNormalization(layers.Dense(3), **arguments)


def test_rejects_a_layer_without_a_kernel():
    with pytest.raises(ValueError, match="needs a layer with a kernel"):
        SpectralNormalization(layers.ReLU())(np.ones((2, 3), "float32"))
