"""Reference operations and their written-out gradients against NumPy float64."""

import numpy as np
import pytest
import tensorflow as tf

from sagan_tf.accelerate import convolution
from sagan_tf.layers.functional import sum_positions


@pytest.mark.parametrize("shape", [(3, 5), (3, 7, 5), (3, 4, 7, 5), (2, 2, 3, 4, 5)])
@pytest.mark.parametrize("dtype, tolerance", [("bfloat16", 2e-2), ("float32", 1e-5), ("float64", 1e-12)])
def test_sum_positions_matches_numpy(shape, dtype, tolerance):
    x = tf.cast(np.random.default_rng(0).normal(size=shape), dtype)
    found = sum_positions(x, "float64" if dtype == "float64" else "float32")
    exact = np.array(tf.cast(x, tf.float64))
    assert found.dtype == ("float64" if dtype == "float64" else "float32")
    np.testing.assert_allclose(found, exact.sum(tuple(range(1, len(shape) - 1))), atol=tolerance, rtol=tolerance)


def test_sum_positions_is_exact_over_a_large_bfloat16_map():
    x = tf.ones((1, 256, 256, 2), tf.bfloat16)
    np.testing.assert_array_equal(sum_positions(x, "float32"), [[65536, 65536]])


@pytest.mark.parametrize("shape", [(1, 6, 1, 5), (3, 4, 7, 5)])
def test_add_bias_matches_value_and_two_derivatives(shape):
    rng = np.random.default_rng(0)
    x, bias = tf.constant(rng.normal(size=shape)), tf.constant(rng.normal(size=shape[-1]))
    with tf.GradientTape(persistent=True) as outer:
        outer.watch([x, bias])
        with tf.GradientTape() as inner:
            inner.watch([x, bias])
            output = convolution.add_bias(x, bias)
            loss = tf.reduce_sum(output**3)
        of_x, of_bias = inner.gradient(loss, [x, bias])
        norm = tf.reduce_sum(of_x**2) + tf.reduce_sum(of_bias**2)
    value = np.array(x) + np.array(bias)
    axes = tuple(range(len(shape) - 1))
    np.testing.assert_allclose(output, value)
    np.testing.assert_allclose(of_x, 3 * value**2)
    np.testing.assert_allclose(of_bias, (3 * value**2).sum(axes), rtol=1e-12)
    # d/dx of sum (3 v^2)^2 + (sum 3 v^2)^2
    second = 36 * value**3 + 12 * (3 * value**2).sum(axes) * value
    np.testing.assert_allclose(outer.gradient(norm, x), second, rtol=1e-12)
    np.testing.assert_allclose(outer.gradient(norm, bias), second.sum(axes), rtol=1e-12)
