"""Products of the power iteration stay in full float32 where TensorFlow or JAX rounds those of matrices."""

import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from sagan_tf.accelerate import full_float32, use_kernels
from sagan_tf.accelerate.registry import Kernel
from sagan_tf.layers import SpectralNormalization

KERNELS = {name: Kernel(getattr(full_float32, name), lambda *_: True) for name in ("multiply_column", "multiply_row")}


@pytest.mark.parametrize("tf32, devices, expected", [(True, ["gpu"], True), (False, ["gpu"], False), (True, [], False)])
def test_is_rounded_needs_gpu_and_tf32(tf32, devices, expected, monkeypatch):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind=None: devices)
    monkeypatch.setattr(tf.config.experimental, "tensor_float_32_execution_enabled", lambda: tf32)
    assert full_float32.is_rounded() is expected


@pytest.mark.parametrize("precision, device, expected", [
    (None, "cpu", False), (None, "gpu", True), (None, "tpu", True), ("float32", "gpu", False),
    ("highest", "tpu", False), ("tensorfloat32", "gpu", True), ("bfloat16", "cpu", True),
    ("BF16_BF16_F32", "gpu", True),
])  # fmt: skip
def test_is_rounded_on_jax_unless_it_is_set_to_float32(precision, device, expected, monkeypatch):
    config = SimpleNamespace(jax_default_matmul_precision=precision)
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(config=config, default_backend=lambda: device))
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert full_float32.is_rounded() is expected


def test_spectral_normalization_makes_no_matrix_product_of_its_own():
    layer = SpectralNormalization(keras.layers.Dense(5))
    x = tf.constant(np.random.default_rng(0).normal(size=(3, 7)), tf.float32)
    layer(x)
    u, kernel = (np.float64(part.numpy()) for part in (layer.u, layer.layer.kernel))

    @tf.function
    def call():
        return layer(x, training=True)

    with use_kernels(KERNELS):
        graph, output = call.get_concrete_function().graph, call()
    assert [operation.type for operation in graph.get_operations()].count("MatMul") == 1  # x times the kernel
    v = kernel @ u / np.linalg.norm(kernel @ u)
    np.testing.assert_allclose(output, x @ (kernel / np.linalg.norm(v @ kernel)), rtol=1e-5)
    np.testing.assert_allclose(layer.u, v @ kernel / np.linalg.norm(v @ kernel), rtol=1e-5)
