"""Products of a matrix and a vector in full float32 where TensorFlow rounds the factors of matrix products to TF32."""

import keras
from keras import ops

from sagan_tf.accelerate.registry import Kernel, set_default_kernels


def is_rounded(*_):
    """Whether TensorFlow rounds, which GPUs from Ampere on do; the others are treated alike."""
    if keras.backend.backend() != "tensorflow" or not keras.distribution.list_devices("gpu"):
        return False
    import tensorflow as tf

    return tf.config.experimental.tensor_float_32_execution_enabled()


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
