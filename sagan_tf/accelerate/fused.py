"""Batch normalization by TensorFlow's fused operation, for bfloat16 on a CPU."""

import tensorflow as tf

from sagan_tf.accelerate.registry import Kernel


def kernels():
    """Kernels of this module, for `accelerate.use_kernels`."""
    return {"batch_normalize": Kernel(fused_batch_normalize, _supports)}


def _supports(x, *_):
    # In float32 it gains little on a CPU.
    return x.dtype == tf.bfloat16 and x.shape.rank == 4


def fused_batch_normalize(x, scale, offset, epsilon, synchronized):
    """`functional.batch_normalize` on one replica, in one pass forward and one back, by FusedBatchNormV3."""
    shared = scale.shape[0] == 1
    gamma, beta = (scale[0], offset[0]) if shared else (tf.ones(x.shape[-1:]), tf.zeros(x.shape[-1:]))
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=[], variance=[], epsilon=epsilon, is_training=True
    )
    if not shared:
        outputs = _scale_and_shift(outputs, scale, offset)
    # TensorFlow returns the unbiased estimate for the moving variance.
    count = tf.cast(tf.reduce_prod(tf.shape(x)[:3]), tf.float32)
    return outputs, tf.stop_gradient(mean), tf.stop_gradient(variance * (count - 1) / count)


@tf.custom_gradient
def _scale_and_shift(x, scale, offset):
    """As `functional.scale_and_shift`, which imports cannot reach from here, for a bfloat16 map (B, H, W, C)."""

    def gradient(upstream):
        sums = (tf.reduce_sum(tf.cast(tf.reduce_sum(part, 2), tf.float32), 1) for part in (upstream * x, upstream))
        return upstream * tf.cast(scale[:, None, None], x.dtype), *sums

    outputs = tf.cast(x, tf.float32) * scale[:, None, None] + offset[:, None, None]
    return tf.cast(outputs, x.dtype), gradient
