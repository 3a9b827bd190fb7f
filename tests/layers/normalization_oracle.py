"""Errors of a training call of batch normalization, forward and backward, where means are far from zero."""

import keras
import numpy as np
import tensorflow as tf

from sagan_tf.accelerate import use_kernels

FAR_MEANS = [10, 100, 1000, 3000]  # in standard deviations
LABEL = np.arange(8) % 3
EPSILON = 1e-5


def normalization_errors(make, mean, dtype, kernels=None, outlier=False):
    """Largest errors of the output, of the gradient of the map and of gamma, relative to float64.

    Args:
        make: Function of `epsilon` and `dtype` that makes the layer, conditional or not, of 3 classes.
        mean: float, of a map with standard deviation 1.
        dtype: Policy.
        kernels: dict, for `use_kernels`.
        outlier: bool. Set the first position of the map to zero.
    """
    layer = make(epsilon=EPSILON, dtype=dtype)
    rng = np.random.default_rng(0)
    x, upstream = rng.normal(mean, 1, (8, 64, 64, 2)), rng.normal(size=(8, 64, 64, 2))
    x[0, 0, 0] *= not outlier
    x, upstream = (tf.cast(part, layer.compute_dtype) for part in (x, upstream))
    conditional = hasattr(layer, "num_classes")
    inputs = [x, tf.constant(LABEL)] if conditional else x
    layer(inputs)
    with use_kernels(kernels or {}), tf.GradientTape() as tape:
        tape.watch(x)
        output = layer(inputs, training=True)
    gradients = tape.gradient(output, [x, layer.gamma.value], upstream)
    y, of_x, of_gamma = (tf.cast(tf.convert_to_tensor(part), tf.float64).numpy() for part in (output, *gradients))

    exact, g = (tf.cast(part, tf.float64).numpy() for part in (x, upstream))
    axes = (0, 1, 2)
    inverse = 1 / np.sqrt(exact.var(axes) + EPSILON)
    n = (exact - exact.mean(axes)) * inverse
    want = inverse * (g - g.mean(axes) - n * (g * n).mean(axes))
    of_gamma = of_gamma.sum(0) if conditional else of_gamma
    of_gamma_error = np.abs(of_gamma - (g * n).sum(axes)).max() / np.sqrt(n[..., 0].size)
    return np.array([np.abs(y - n).max(), np.abs(of_x - want).max() / np.abs(want).max(), of_gamma_error])


def keras_errors(mean, dtype, **options):
    """`normalization_errors` of Keras' own layer."""
    return normalization_errors(keras.layers.BatchNormalization, mean, dtype, **options)
