"""Products of a matrix and a vector in full float32 where TensorFlow or JAX rounds the factors of matrix products."""

import keras
from keras import ops

from sagan_tf.accelerate.registry import Kernel, set_default_kernels


def is_rounded(*_):
    """Whether the backend may round: TensorFlow to TF32 on GPUs, also those before Ampere; JAX as it is set."""
    if keras.backend.backend() == "tensorflow" and keras.distribution.list_devices("gpu"):
        import tensorflow as tf

        return tf.config.experimental.tensor_float_32_execution_enabled()
    if keras.backend.backend() == "jax":
        import jax

        precision = jax.config.jax_default_matmul_precision
        return jax.default_backend() != "cpu" if precision is None else precision not in ("float32", "highest")
    return False


def multiply_column(matrix, column):
    """`functional.multiply_column` by elementwise products."""
    return ops.sum(matrix * ops.reshape(column, (1, -1)), axis=1, keepdims=True)


def multiply_row(row, matrix):
    """`functional.multiply_row` by elementwise products."""
    return ops.sum(matrix * ops.reshape(row, (-1, 1)), axis=0, keepdims=True)


set_default_kernels(
    {
        "multiply_column": Kernel(multiply_column, is_rounded),
        "multiply_row": Kernel(multiply_row, is_rounded),
    }
)
