"""Kernels of few TensorFlow operations: without XLA a GPU waits for the launch of each.

Batch normalization is TensorFlow's fused operation, cuDNN's on a GPU.
"""

import numpy as np
import tensorflow as tf

from sagan_tf.accelerate.full_float32 import is_rounded
from sagan_tf.accelerate.registry import Kernel


def kernels():
    """Kernels of this module, for `accelerate.use_kernels`."""
    return {
        "add_maps": Kernel(tf.add, lambda *_: is_on_gpu()),
        "batch_normalize": Kernel(fused_batch_normalize, _supports),
        "update_moving_average": Kernel(
            fused_update_moving_average, lambda variable, *_: _is_alone() and hasattr(variable.value, "handle")
        ),
        "power_iterations": Kernel(joint_power_iterations, lambda *_: not is_rounded()),
    }


def _is_alone():
    return tf.distribute.get_strategy().num_replicas_in_sync == 1


def _supports(x, scale, offset, epsilon, synchronized):
    alone = not synchronized or _is_alone()
    # TensorFlow's float32 kernel for CPUs is less exact than the reference and little faster.
    is_gain = x.dtype == tf.bfloat16 or (is_on_gpu() and x.dtype != tf.float64)
    return alone and is_gain and x.shape.rank == 4 and None not in x.shape[1:]


def is_on_gpu():
    """Whether steps run on a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def fused_batch_normalize(x, scale, offset, epsilon, synchronized):
    """`functional.batch_normalize` of this replica alone, in one pass forward and one back, by FusedBatchNormV3."""
    shared = scale.shape[0] == 1
    channels = x.shape[-1:]
    if shared:
        gamma, beta = tf.reshape(scale, channels), tf.reshape(offset, channels)
    else:
        gamma, beta = tf.constant(1.0, shape=channels), tf.constant(0.0, shape=channels)
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=[], variance=[], epsilon=epsilon, is_training=True
    )
    if not shared:
        outputs = _scale_and_shift(outputs, scale, offset)
    # TensorFlow returns the unbiased estimate for the moving variance.
    rows, height, width, _ = x.shape
    count = height * width * (tf.cast(tf.shape(x)[0], tf.float32) if rows is None else rows)
    return outputs, tf.stop_gradient(mean), tf.stop_gradient(variance * (1 - 1 / count))


@tf.custom_gradient
def _scale_and_shift(x, scale, offset):
    """x (B, H, W, C) * scale + offset, rows (B, C), computed in float32; the gradient of x in its own dtype."""

    def gradient(upstream):
        sums = (tf.reduce_sum(tf.cast(tf.reduce_sum(part, 2), tf.float32), 1) for part in (upstream * x, upstream))
        return upstream * tf.cast(factor, x.dtype), *sums

    factor, shift = (tf.reshape(row, (-1, 1, 1, x.shape[-1])) for row in (scale, offset))
    return tf.cast(tf.cast(x, tf.float32) * factor + shift, x.dtype), gradient


def fused_update_moving_average(variable, target, rate):
    """`functional.update_moving_average` of this replica's copy of a Keras variable, in two operations."""
    difference = variable.value - tf.cast(target, variable.dtype)
    tf.raw_ops.ResourceApplyGradientDescent(
        var=variable.value.handle, alpha=tf.cast(rate, variable.dtype), delta=difference
    )


def joint_power_iterations(matrices, vectors, iterations, epsilon):
    """`functional.power_iterations` on columns that hold the vectors of all kernels, one after the other."""
    heights, widths = zip(*(matrix.shape for matrix in matrices))
    us = tf.reshape(tf.concat(vectors, 0), (-1, 1))
    for _ in range(iterations):
        vs = tf.concat([matrix @ u for matrix, u in zip(matrices, tf.split(us, widths))], 0)
        vs /= _of_each_element(_norms(vs, heights), heights) + epsilon
        rows = [tf.matmul(v, matrix, transpose_a=True) for matrix, v in zip(matrices, tf.split(vs, heights))]
        rows = tf.reshape(tf.concat(rows, 1), (-1, 1))
        lengths = _norms(rows, widths)
        divisors = _of_each_element(lengths, widths)
        us = tf.where(divisors > epsilon, rows / (divisors + epsilon), us)
    sigmas = tf.square(lengths) / (lengths + epsilon)
    return tf.split(tf.reshape(us, [-1]), widths), tf.split(tf.reshape(vs, [-1]), heights), tf.reshape(sigmas, [-1])


def _norms(column, sizes):
    """Norms (N, 1) of N vectors of these sizes, one after the other in a column."""
    owners = np.repeat(np.arange(len(sizes)), sizes)
    return tf.sqrt(tf.math.unsorted_segment_sum(tf.square(column), owners, len(sizes)))


def _of_each_element(values, sizes):
    """A column of the value, of (N, 1), of the vector that each element belongs to."""
    return tf.gather(values, np.repeat(np.arange(len(sizes)), sizes))
