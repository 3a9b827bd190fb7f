"""What layers are lent while a replica trains alone: batch normalisation as one operation, or our own; TensorFlow."""

import tensorflow as tf

from sagan_tf.accelerate import compiled as native_operations
from sagan_tf.layers.batch_normalization import scale_and_shift


def fused_batch_normalization(x, scale, offset, epsilon):
    """Normalises a feature map by the statistics of its batch, in one pass forward and one back; scales and shifts it.

    Statistics and arithmetic are in float32. In float32 throughout it gains little on a CPU, and the layers' own way is
    the same number on any number of replicas: so bfloat16 alone.

    Args:
        x: (B, H, W, C).
        scale, offset: (B, C) or (1, C), float32.
        epsilon: float > 0, added to the variance.

    Returns:
        (outputs (B, H, W, C), mean (C,) float32, variance (C,) float32); None for another dtype or rank.

    Source: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167, algorithm 1; TensorFlow's `FusedBatchNormV3`.
    """
    if x.dtype != tf.bfloat16 or x.shape.rank != 4:
        return None
    together = scale.shape[0] == 1
    channels = tf.ones(x.shape[-1:]), tf.zeros(x.shape[-1:])
    gamma, beta = (scale[0], offset[0]) if together else channels
    outputs, mean, estimate, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=[], variance=[], epsilon=epsilon, is_training=True
    )
    outputs = outputs if together else scale_and_shift(outputs, scale, offset)
    # TensorFlow gives the unbiased estimate for the moving variance.
    count = tf.cast(tf.reduce_prod(tf.shape(x)[:3]), tf.float32)
    return outputs, tf.stop_gradient(mean), tf.stop_gradient(estimate * (count - 1) / count)


def operations_for(strategy, native=False):
    """What to lend: a GPU has its own ways, and on several replicas the statistics are of all of them.

    Args:
        strategy: tf.distribute.Strategy.
        native: bool. Our own operations where they serve, see `native_operations`.

    Returns:
        dict for `layers.lending`, or None.
    """
    if strategy.num_replicas_in_sync > 1 or tf.config.list_physical_devices("GPU"):
        return None
    return native_operations.lendable() if native else {"normalize": fused_batch_normalization}
