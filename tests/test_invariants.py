"""Properties of layers, averages and files for any input; those of attention and sigma are in tests/layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from sagan_tf.layers import ConditionalBatchNormalization, SelfAttention, SpectralNormalization
from sagan_tf.networks import build_discriminator, build_generator
from sagan_tf.training.ema import AveragedGenerator

seeds = st.integers(0, 2**32 - 1)


def normalized_dense(kernel, iterations=1, dtype="float64"):
    layer = SpectralNormalization(layers.Dense(kernel.shape[1], dtype=dtype), power_iterations=iterations)
    layer.build((None, kernel.shape[0]))
    layer.layer.kernel.assign(kernel)
    return layer


@settings(max_examples=25)
@given(seed=seeds, rows=st.integers(2, 9), columns=st.integers(2, 9), iterations=st.integers(1, 40))
def test_spectral_normalization_sigma_is_within_bound_of_power_iteration(seed, rows, columns, iterations):
    # Power iteration estimates sigma from below: with u at angle t from the first singular vector, after k iterations
    # sigma_1^2 / sigma^2 <= 1 + tan(t)^2 (sigma_2 / sigma_1)^(4k).
    kernel = np.random.default_rng(seed).normal(size=(rows, columns))
    layer = normalized_dense(kernel, iterations)
    u = layer.vectors[0].numpy()
    largest = np.linalg.norm(ops.convert_to_numpy(layer.fold().kernel), 2)
    _, values, right = np.linalg.svd(kernel)
    cosine = abs(right[0] @ u) / np.linalg.norm(u)
    bound = 1 + (1 / cosine**2 - 1) * (values[1] / values[0]) ** (4 * iterations - 2)
    assert 1 - 1e-9 <= largest <= np.sqrt(bound) + 1e-9


@settings(max_examples=5)
@given(seed=seeds)
def test_spectral_normalization_sigma_converges_to_one(seed):
    left, _, right = np.linalg.svd(np.random.default_rng(seed).normal(size=(5, 4)), full_matrices=False)
    kernel = left * [3.0, 2.7, 2.0, 0.1] @ right  # Ratio 0.9: the error shrinks by 0.9^256.
    # u has a component of every singular vector: from a start orthogonal to the first one convergence is slow.
    u = np.random.default_rng(seed + 1).uniform(0.5, 1, 4) @ right
    errors = []
    for iterations in (1, 4, 16, 64):
        layer = normalized_dense(kernel, iterations)
        layer.vectors[0].assign(u)
        errors.append(np.linalg.norm(ops.convert_to_numpy(layer.fold().kernel), 2) - 1)
    assert errors == sorted(errors, reverse=True) or max(errors) < 1e-9
    assert errors[-1] < 1e-8


@settings(max_examples=20)
@given(seed=seeds, scale=st.floats(1e-3, 1e3))
def test_spectral_normalization_is_invariant_to_kernel_scale(seed, scale):
    rng = np.random.default_rng(seed)
    kernel, x, target = rng.normal(size=(4, 3)), rng.normal(size=(6, 4)), rng.normal(size=(6, 3))
    results = []
    for factor in (1.0, scale):
        layer = normalized_dense(kernel * factor)
        layer.vectors[0].assign(np.ones(3))
        with tf.GradientTape() as tape:
            output = layer(tf.constant(x), training=True)
            loss = tf.reduce_mean((output - target) ** 2)
        gradient = tape.gradient(loss, layer.layer.kernel.value).numpy()
        results.append((output.numpy(), gradient / np.linalg.norm(gradient), np.linalg.norm(gradient) * factor))
    for first, second in zip(*results):
        np.testing.assert_allclose(first, second, rtol=1e-7, atol=1e-9)


@settings(max_examples=10)
# TensorFlow's kernels flush subnormal numbers to 0.
@given(value=st.floats(-1e3, 1e3, width=32, allow_subnormal=False), decay=st.floats(0, 0.99), steps=st.integers(1, 30))
def test_averaged_generator_keeps_constant_weights(value, decay, steps):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    for weight in model.weights:
        weight.assign(np.full(weight.shape, value, np.float32))
    average = AveragedGenerator(model, decay)
    for step in range(steps):
        average.update(ops.convert_to_tensor(step))
    for weight in average.model.weights:
        assert (weight.numpy() == np.float32(value)).all()


def attention_model():
    image = keras.Input((4, 4, 16))
    return keras.Model(image, SelfAttention()(image)), (4, 4, 16)


def conditional_model():
    image, label = keras.Input((4, 4, 3)), keras.Input((), dtype="int32")
    return keras.Model([image, label], ConditionalBatchNormalization(3)([image, label])), (4, 4, 3)


def spectral_model():
    image = keras.Input((4, 4, 3))
    return keras.Model(image, SpectralNormalization(layers.Conv2D(5, 3))(image)), (4, 4, 3)


def generator():
    return build_generator(32, 4, 3, 8, (16,)), (8,)


def discriminator():
    return build_discriminator(32, 4, 3, (16,)), (32, 32, 3)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
@pytest.mark.parametrize("make", [attention_model, conditional_model, spectral_model, generator, discriminator])
def test_models_are_unchanged_by_save_and_load(make, suffix, tmp_path):
    model, shape = make()
    rng = np.random.default_rng(0)
    for weight in model.weights:
        noise = rng.normal(size=weight.shape)
        weight.assign(abs(noise) + 0.5 if "variance" in weight.path else noise)
    x = ops.convert_to_tensor(rng.normal(size=(2, *shape)).astype("float32"))
    inputs = [x, ops.convert_to_tensor([2, 0])] if len(model.inputs) == 2 else x
    path = tmp_path / f"model{suffix}"
    if suffix == ".keras":
        model.save(path)
        loaded = keras.models.load_model(path)
    else:
        model.save_weights(path)
        loaded = make()[0]
        loaded.load_weights(path)
    for a, b in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    for training in (False, True):
        np.testing.assert_array_equal(loaded(inputs, training=training), model(inputs, training=training))
