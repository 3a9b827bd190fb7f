"""Batch normalisation as one operation of TensorFlow, lent to the layers while a replica trains alone; TensorFlow."""

import tensorflow as tf


def fused_batch_normalization(x, gamma, beta, epsilon):
    """Normalises, scales and shifts a feature map by the statistics of its batch, in one pass forward and one back.

    Statistics and arithmetic are in float32. In float32 throughout it gains little on a CPU, and the layers' own way is
    the same number on any number of replicas: so bfloat16 alone.

    Args:
        x: (B, H, W, C).
        gamma, beta: (C,) float32.
        epsilon: float > 0, added to the variance.

    Returns:
        (outputs (B, H, W, C), mean (C,) float32, variance (C,) float32); None for another dtype or rank.

    Source: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167, algorithm 1; TensorFlow's `FusedBatchNormV3`.
    """
    if x.dtype != tf.bfloat16 or x.shape.rank != 4:
        return None
    outputs, mean, estimate, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=[], variance=[], epsilon=epsilon, is_training=True
    )
    # TensorFlow gives the unbiased estimate for the moving variance.
    count = tf.cast(tf.reduce_prod(tf.shape(x)[:3]), tf.float32)
    return outputs, tf.stop_gradient(mean), tf.stop_gradient(estimate * (count - 1) / count)


def operation_for(strategy):
    """What to lend: a GPU has its own ways, and on several replicas the statistics are of all of them.

    Args:
        strategy: tf.distribute.Strategy.

    Returns:
        `fused_batch_normalization`, or None.
    """
    alone = strategy.num_replicas_in_sync == 1 and not tf.config.list_physical_devices("GPU")
    return fused_batch_normalization if alone else None
