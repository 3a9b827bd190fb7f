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


def multiply_vector(matrix, vector):
    """`functional.multiply_vector` by elementwise products."""
    return ops.sum(matrix * vector, axis=1)


def multiply_row(vector, matrix):
    """`functional.multiply_row` by elementwise products."""
    return ops.sum(matrix * vector[:, None], axis=0)


set_default_kernels(
    {
        "multiply_vector": Kernel(multiply_vector, is_rounded),
        "multiply_row": Kernel(multiply_row, is_rounded),
    }
)
