"""SpectralNormalization against Miyato et al. 2018 in NumPy float64, the SVD and finite differences."""

import contextlib
import functools

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops
from layer_contract import CONTRACT, Subject
from layers.spectral_oracle import (
    CASES,
    as_kernel,
    as_matrix,
    first_left_singular_vector,
    kernel_gradient,
    largest_singular_value,
    normalized,
    plain_layer,
    power_iteration,
    random_weights,
    relative_error,
)

from sagan_tf.accelerate import fused, use_kernels
from sagan_tf.layers import SelfAttention, SpectralNormalization, spectral_normalizations
from sagan_tf.layers.spectral_normalization import normalized_together, update_all_u


def built(case, dtype="float32", **arguments):
    layer = SpectralNormalization(case.make(dtype=dtype), **arguments)
    layer(case.inputs())
    random_weights(layer)
    return layer


def output_and_gradients(layer, x, upstream=None, **arguments):
    """The output, `upstream` or random numbers of its shape, and the gradients of <upstream, output>."""
    weights = layer.trainable_weights
    with tf.GradientTape() as tape:
        output = layer(x, **arguments)
        if upstream is None:
            upstream = np.random.default_rng(2).normal(size=output.shape)
        loss = tf.reduce_sum(output * tf.cast(upstream, output.dtype))
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    return output, upstream, {weight.name: np.array(tf.convert_to_tensor(g)) for weight, g in zip(weights, gradients)}


def iterate(layer, count):
    """Makes `count` updates of u in one graph."""
    tf.function(lambda: tf.while_loop(lambda i: i < count, lambda i: (layer.update_u(), i + 1)[1:], [0]))()


def converge(layer, case):
    """Gives every kernel the first singular vector of its SVD."""
    for (kernel, axes), vector in zip(case.kernels(layer.layer), layer.vectors, strict=True):
        vector.assign(first_left_singular_vector(kernel.numpy(), axes))


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "make, shape, output_shape, trainable, non_trainable",
    [
        (lambda dtype: layers.Dense(5, dtype=dtype), (3, 7), (3, 5), 40, 5),
        (lambda dtype: layers.Conv2D(4, 3, padding="same", dtype=dtype), (2, 5, 6, 3), (2, 5, 6, 4), 112, 4),
        (lambda dtype: layers.LSTM(3, dtype=dtype), (2, 4, 5), (2, 3), 108, 24),
    ],
    ids=["dense", "conv2d", "lstm"],
)
def test_spectral_normalization_meets_contract(check, make, shape, output_shape, trainable, non_trainable, tmp_path):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    subject = Subject(
        lambda dtype: SpectralNormalization(make(dtype), power_iterations=2, epsilon=1e-10),
        x, output_shape, trainable, non_trainable,
    )  # fmt: skip
    check(subject, tmp_path)


# float32: sums of at most a few hundred products, each good to 6e-8.
@pytest.mark.parametrize("iterations, dtype, tolerance", [(1, "float32", 1e-5), (3, "float64", 1e-12)])
@pytest.mark.parametrize("name", CASES)
def test_spectral_normalization_output_gradients_and_u_match_numpy(name, iterations, dtype, tolerance):
    case = CASES[name]
    layer = built(case, dtype, power_iterations=iterations)
    kernels = [(kernel.name, kernel.numpy(), axes) for kernel, axes in case.kernels(layer.layer)]
    us = [vector.numpy() for vector in layer.vectors]
    weights = {weight.name: weight.numpy() for weight in layer.layer.weights}
    weights |= {name: normalized(kernel, u, axes, iterations) for (name, kernel, axes), u in zip(kernels, us)}
    output, upstream, gradients = output_and_gradients(layer, case.inputs(), training=True)
    want, _, want_gradients = output_and_gradients(plain_layer(case, list(weights.values())), case.inputs(), upstream)
    assert relative_error(output, want) < tolerance
    assert len(us) == len(kernels) == len(case.output_axes)
    for (name, kernel, axes), u, vector in zip(kernels, us, layer.vectors):
        want_gradients[name] = kernel_gradient(want_gradients[name], kernel, u, axes, iterations)
        assert relative_error(vector, power_iteration(as_matrix(kernel, axes), u, iterations)[1]) < tolerance
    assert gradients.keys() == want_gradients.keys()
    for name, gradient in gradients.items():
        assert relative_error(gradient, want_gradients[name]) < tolerance, name


@settings(max_examples=40)
@given(
    rows=st.integers(1, 4),
    inputs=st.integers(1, 12),
    units=st.integers(1, 12),
    iterations=st.integers(1, 6),
    seed=st.integers(0, 2**31 - 1),
)
def test_spectral_normalization_matches_numpy_for_any_matrix(rows, inputs, units, iterations, seed):
    rng = np.random.default_rng(seed)
    layer = SpectralNormalization(layers.Dense(units, use_bias=False, dtype="float64"), power_iterations=iterations)
    layer.build((None, inputs))
    kernel, u, x = rng.normal(size=(inputs, units)), rng.normal(size=units), rng.normal(size=(rows, inputs))
    layer.layer.set_weights([kernel])
    layer.u.assign(u)
    output, upstream, gradients = output_and_gradients(layer, x, training=True)
    sigma, want_u, _ = power_iteration(as_matrix(kernel, (1,)), u, iterations)
    # Where u starts nearly orthogonal to the kernel's range, rounding grows by 1 / their cosine.
    np.testing.assert_allclose(output, x @ kernel / sigma, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(layer.u, want_u, atol=1e-9)
    want = kernel_gradient(x.T @ upstream, kernel, u, (1,), iterations)
    scale = np.abs(x.T @ upstream).max() / sigma
    np.testing.assert_allclose(gradients["kernel"], want, atol=1e-9 * scale)


@pytest.mark.parametrize("name", CASES)
def test_spectral_normalization_gradient_matches_finite_differences(name):
    case, step = CASES[name], 1e-5
    layer = built(case, "float64")
    converge(layer, case)
    _, upstream, gradients = output_and_gradients(layer, case.inputs(), training=True)
    axes = {kernel.name: axes for kernel, axes in case.kernels(layer.layer)}
    start = {weight.name: weight.numpy() for weight in layer.layer.weights}
    rng = np.random.default_rng(3)
    direction = {name: rng.normal(size=value.shape) for name, value in start.items()}

    def loss(t):
        moved = {name: value + t * direction[name] for name, value in start.items()}
        moved |= {name: moved[name] / largest_singular_value(moved[name], axes[name]) for name in axes}
        return np.sum(upstream * np.array(plain_layer(case, list(moved.values()))(case.inputs())))

    slope = sum(np.sum(gradients[name] * direction[name]) for name in start)
    # The central difference errs by about step**2 and by rounding over step: both near 1e-10.
    assert slope == pytest.approx((loss(step) - loss(-step)) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_spectral_normalization_gradient_is_orthogonal_to_the_kernel(name):
    case = CASES[name]
    layer = built(case, "float64")
    _, _, gradients = output_and_gradients(layer, case.inputs(), training=True)
    for kernel, _ in case.kernels(layer.layer):
        gradient, kernel = gradients[kernel.name], kernel.numpy()
        length = np.linalg.norm(gradient) * np.linalg.norm(kernel)
        assert length > 0.1
        assert abs(np.sum(gradient * kernel)) < 1e-13 * length


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_spectral_normalization_norm_is_one_after_many_iterations(name):
    case = CASES[name]
    layer = built(case, "float64")
    iterate(layer, 500)
    folded = layer.fold()
    for i, (kernel, axes) in enumerate(case.kernels(layer.layer)):
        assert float(layer.sigma(i)) == pytest.approx(largest_singular_value(kernel.numpy(), axes), rel=1e-9)
    for kernel, axes in case.kernels(folded):
        assert largest_singular_value(kernel.numpy(), axes) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("axes, shape", [((3,), (3, 3, 4, 5)), ((2,), (3, 3, 5, 4)), ((2, 3), (3, 3, 4, 2))])
def test_spectral_oracle_as_kernel_inverts_as_matrix(axes, shape):
    kernel = np.random.default_rng(0).normal(size=shape)
    np.testing.assert_array_equal(as_kernel(as_matrix(kernel, axes), axes, shape), kernel)


@pytest.mark.parametrize("scale", [1e-10, 1e-6, 1e6, 1e15])
def test_spectral_normalization_matches_numpy_at_any_kernel_scale(scale):
    rng = np.random.default_rng(0)
    layer = SpectralNormalization(layers.Dense(4, use_bias=False))
    layer.build((None, 3))
    kernel = (scale * rng.normal(size=(3, 4))).astype("float32")
    u, x = rng.normal(size=4), rng.normal(size=(2, 3))
    layer.layer.set_weights([kernel])
    layer.u.assign(u)
    output, upstream, gradients = output_and_gradients(layer, x, training=True)
    assert relative_error(output, x @ normalized(kernel, u, (1,))) < 1e-5
    assert relative_error(gradients["kernel"], kernel_gradient(x.T @ upstream, kernel, u, (1,))) < 1e-5


@pytest.mark.parametrize("scale", [0, 1e-30, 1e-14])
def test_spectral_normalization_leaves_kernel_and_u_without_a_sigma(scale):
    rng = np.random.default_rng(0)
    layer = SpectralNormalization(layers.Dense(4))
    layer.build((None, 3))
    kernel, bias, u = rng.normal(size=(3, 4)).astype("float32"), rng.normal(size=4), rng.normal(size=4)
    layer.layer.set_weights([kernel * np.float32(scale), bias])
    layer.u.assign(u)
    x = rng.normal(size=(2, 3))
    output, upstream, gradients = output_and_gradients(layer, x, training=True)
    assert relative_error(output, x @ (kernel.astype(float) * scale) + bias) < 1e-6
    assert relative_error(gradients["kernel"], x.T @ upstream) < 1e-6  # gradient of the plain layer
    assert float(layer.sigma()) == 1
    np.testing.assert_array_equal(layer.u, u.astype("float32"))
    layer.layer.kernel.assign(kernel)
    iterate(layer, 200)
    assert float(layer.sigma()) == pytest.approx(np.linalg.norm(kernel, 2), rel=1e-5)


class Probe(keras.layers.Layer):
    """Returns the kernel that it receives, unrounded."""

    def __init__(self, **arguments):
        super().__init__(autocast=False, **arguments)

    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(96, 64), initializer="random_normal")

    def call(self, inputs):
        return ops.multiply(self.kernel, 1)


class Around(keras.layers.Layer):
    """A layer with its own policy around another layer."""

    def __init__(self, layer, **arguments):
        super().__init__(**arguments)
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs)


@pytest.mark.parametrize("policy, low", [("mixed_bfloat16", ml_dtypes.bfloat16), ("mixed_float16", np.float16)])
def test_spectral_normalization_keeps_float32_in_mixed_precision(policy, low):
    layer = SpectralNormalization(Probe(dtype=policy))
    around = Around(layer, dtype=policy)
    seen = around(np.ones((1, 1), "float32"))
    kernel, u = layer.layer.kernel.numpy(), layer.u.numpy()
    seen = around(np.ones((1, 1), "float32"), training=True)
    want = normalized(kernel, u, (1,))
    assert relative_error(seen, want) < 1e-5
    assert relative_error(layer.u, power_iteration(as_matrix(kernel, (1,)), u)[1]) < 1e-5
    sigma = float(layer.sigma())
    assert abs(float(low(sigma)) / sigma - 1) > 1e-5  # the value in lower precision
    np.testing.assert_array_equal(layer.layer.kernel.numpy(), kernel)
    assert not np.array_equal(kernel.astype(low).astype("float32"), kernel)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_spectral_normalization_keeps_float32_inside_mixed_attention(policy):
    attention = SelfAttention(dtype=policy)
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 64)).astype("float32")
    attention(x)
    before = [(part.layer.kernel.numpy(), part.u.numpy()) for part in (attention.query, attention.projection)]
    tf.function(attention)(x, training=True)
    for part, (kernel, u) in zip((attention.query, attention.projection), before):
        assert relative_error(part.u, power_iteration(as_matrix(kernel, (3,)), u)[1]) < 1e-5
        np.testing.assert_array_equal(part.layer.kernel.numpy(), kernel)


def test_spectral_normalization_u_is_in_tensorflow_checkpoint(tmp_path):
    # It does not see variables in Keras' lists: a project that saves by it would lose u.
    inputs = keras.Input((5, 5, 2))
    model = keras.Model(inputs, SpectralNormalization(layers.SeparableConv2D(3, 3))(inputs))
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))
    before = [vector.numpy() for vector in model.layers[-1].vectors]
    for vector in model.layers[-1].vectors:
        vector.assign(vector * 0)
    tf.train.Checkpoint(model=model).read(path).assert_consumed()
    for vector, value in zip(model.layers[-1].vectors, before, strict=True):
        np.testing.assert_array_equal(vector.numpy(), value)


def test_spectral_normalization_second_derivative_matches_formula():
    """Gradients through W / sigma in TensorFlow's own operations, u and v constant."""
    layer = SpectralNormalization(keras.layers.Dense(4, use_bias=False, dtype="float64"))
    x = tf.constant(np.random.default_rng(0).normal(size=(5, 6)))
    layer(x)
    kernel, u = layer.layer.kernel.value, layer.vectors[0].value
    constant = tf.constant(kernel)
    v = tf.linalg.l2_normalize(tf.linalg.matvec(constant, u))
    left = tf.linalg.l2_normalize(tf.linalg.matvec(constant, v, transpose_a=True))

    def plain(x):
        return x @ (kernel / tf.tensordot(v, tf.linalg.matvec(kernel, left), 1))

    def derivatives(function):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                loss = tf.reduce_sum(tf.sin(function(x)))
            first = inner.gradient(loss, kernel)
            norm = tf.reduce_sum(first**2)
        return loss, first, outer.gradient(norm, kernel)

    for got, want in zip(derivatives(layer), derivatives(plain), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-10)


def mixed_model():
    """Kernels of several shapes, dtypes, epsilons and iterations; a layer of two kernels, one of zeros, one frozen."""
    x = inputs = keras.Input((8, 8, 3))
    for layer, options in [
        (layers.Conv2D(4, 3), {}), (layers.Conv2D(4, 1, use_bias=False), dict(power_iterations=3)),
        (layers.SeparableConv2D(5, 3), dict(epsilon=1e-3)), (layers.Conv2D(5, 3, dtype="float64"), {}),
        (layers.Conv2D(2, 1, kernel_initializer="zeros"), {}), (layers.Dense(3), {}), (layers.Dense(2), {}),
    ]:  # fmt: skip
        x = SpectralNormalization(layer, **options)(x)
    model = keras.Model(inputs, x)
    model.layers[-1].trainable = False
    model.unused = SpectralNormalization(layers.Dense(2))  # never built
    return model


@pytest.mark.parametrize(("training", "kernels"), [(True, {}), (False, {}), (True, fused.kernels())])
def test_normalized_together_equals_separate_calls(training, kernels):
    model, results = mixed_model(), []
    start, x = model.get_weights(), np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    for context, used in ((contextlib.nullcontext, {}), (functools.partial(normalized_together, model), kernels)):
        model.set_weights(start)
        with tf.GradientTape() as tape, use_kernels(used), context():
            output = model(x, training=training)
            again = model(x, training=training)  # iterates on its own, from the stored vectors
        results.append([output, again, *tape.gradient(again, model.trainable_variables), *model.get_weights()])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    assert training == any(np.any(a != b) for a, b in zip(start, model.get_weights(), strict=True))


def test_update_all_u_equals_update_u_of_each_layer():
    model, results = mixed_model(), []
    start, normalizations = model.get_weights(), list(spectral_normalizations(model).values())
    for update in (lambda: [layer.update_u() for layer in normalizations], lambda: update_all_u(normalizations)):
        model.set_weights(start)
        update()
        results.append(model.get_weights())
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
