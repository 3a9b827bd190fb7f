"""Chooses the kernels of a training step by strategy, device and dtype."""

import tensorflow as tf

from sagan_tf.accelerate import compiled, fused


def kernels_for(strategy, use_compiled=False):
    """Chooses the kernels that a training step uses besides the default ones (`accelerate.convolution`).

    The compiled ones are for one replica on a CPU: raises UserError if they are wanted and cannot be compiled.
    """
    if use_compiled and strategy.num_replicas_in_sync == 1 and not tf.config.list_physical_devices("GPU"):
        return compiled.kernels()
    return fused.kernels()
