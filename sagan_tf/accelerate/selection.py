"""Chooses the kernels of a training step by strategy, device and dtype."""

import tensorflow as tf

from sagan_tf.accelerate import compiled, fused


def kernels_for(strategy, use_compiled=False):
    """Chooses the kernels that a training step uses besides the default ones (`accelerate.convolution`).

    None on a GPU, which has its own, nor on several replicas, whose batch statistics are of all of them. Raises
    UserError if the compiled kernels are wanted and cannot be compiled.
    """
    if strategy.num_replicas_in_sync > 1 or tf.config.list_physical_devices("GPU"):
        return {}
    if use_compiled:
        return compiled.kernels()
    return fused.kernels()
