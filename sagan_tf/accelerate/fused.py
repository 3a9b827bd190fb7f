"""Batch normalization by TensorFlow's fused operation, cuDNN's on a GPU."""

import tensorflow as tf

from sagan_tf.accelerate.registry import Kernel


def kernels():
    """Kernels of this module, for `accelerate.use_kernels`."""
    return {"batch_normalize": Kernel(fused_batch_normalize, _supports)}


def _supports(x, scale, offset, epsilon, synchronized):
    alone = not synchronized or tf.distribute.get_strategy().num_replicas_in_sync == 1
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
