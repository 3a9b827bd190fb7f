"""Compares with TensorFlow Addons' SpectralNormalization and MovingAverage."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from parity import recipe
from parity.goldens import golden, relative_error
from sagan_tf.layers import SpectralNormalization
from sagan_tf.training.ema import AveragedGenerator

ADDONS = "TensorFlow Addons 0.23.0"
CASES = [(kind, iterations) for kind in recipe.SPECTRAL_SHAPES for iterations in (1, 3, 20)]


def make_layer(kind, iterations):
    shape = recipe.SPECTRAL_SHAPES[kind]
    plain = keras.layers.Dense(shape[-1]) if kind == "dense" else keras.layers.Conv2D(shape[-1], shape[0])
    layer = SpectralNormalization(plain, power_iterations=iterations)
    layer.build((None, shape[0]) if kind == "dense" else (None, 5, 5, shape[2]))
    layer.layer.kernel.assign(recipe.normal(f"spectral_{kind}", shape))
    return layer


@pytest.mark.parametrize("kind, iterations", CASES)
def test_spectral_normalization_sigma_and_kernel_match_addons(kind, iterations, agrees):
    data = golden("addons_spectral_normalization")
    layer = make_layer(kind, iterations)
    layer.vectors[0].assign(recipe.normal(f"u_{kind}", (recipe.SPECTRAL_SHAPES[kind][-1],)))
    agrees(ADDONS, "spectral norm: sigma", layer.sigma(), data[f"{kind}/{iterations}/sigma"], 2e-6)
    agrees(ADDONS, "spectral norm: kernel", layer.fold().kernel, data[f"{kind}/{iterations}/kernel"], 2e-6)
    layer.update_u()
    agrees(ADDONS, "spectral norm: u", layer.vectors[0], data[f"{kind}/{iterations}/u"], 5e-6)


def test_spectral_normalization_gradient_is_exact_and_addons_is_not(agrees):
    """For f(W) = <x W / sigma(W), direction>, Addons returns df/d(W / sigma) as df/dW."""
    kernel, x, direction = (array.astype(np.float64) for array in recipe.gradient_case())

    def loss(w):
        return np.sum(x @ w / np.linalg.norm(w, 2) * direction)

    truth = np.zeros_like(kernel)
    for index in np.ndindex(*kernel.shape):
        step = np.zeros_like(kernel)
        step[index] = 1e-6
        truth[index] = (loss(kernel + step) - loss(kernel - step)) / 2e-6

    layer = SpectralNormalization(keras.layers.Dense(4, use_bias=False, dtype="float64"))
    layer.build((None, 6))
    layer.layer.kernel.assign(kernel)
    left, _, right = np.linalg.svd(kernel)
    layer.vectors[0].assign(right[0])
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(layer(tf.constant(x), training=True) * direction)
    ours = tape.gradient(value, layer.layer.kernel.value)
    agrees("finite differences, float64", "spectral norm: gradient", ours, truth, 1e-8)

    data = golden("addons_gradient")
    assert relative_error(data["kernel"], kernel) < 1e-6  # The kernel was normalized: Addons left it unchanged.
    theirs = data["gradient"]
    assert relative_error(theirs, truth) > 0.1
    # The difference is exactly the gradient through sigma.
    through_sigma = np.sum(theirs * kernel) * np.outer(left[:, 0], right[0])
    assert relative_error(theirs - through_sigma, truth) < 1e-5


def test_averaged_generator_matches_addons_over_100_steps(agrees):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, use_bias=False)])
    weight = model.weights[0]
    weight.assign(recipe.ema_value(0).reshape(weight.shape))
    average = AveragedGenerator(model, recipe.EMA_DECAY)
    for step in range(1, recipe.EMA_STEPS + 1):
        weight.assign(recipe.ema_value(step).reshape(weight.shape))
        average.update(keras.ops.convert_to_tensor(step - 1))
    data = golden("addons_moving_average")
    assert relative_error(weight.numpy().ravel(), data["last"]) < 1e-6
    agrees(ADDONS, "moving average, 100 steps", average.model.weights[0].numpy().ravel(), data["average"], 2e-6)
