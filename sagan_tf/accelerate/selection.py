"""Chooses the kernels of a training step by strategy, device and dtype."""

from sagan_tf.accelerate import compiled, fused


def kernels_for(strategy, use_compiled=False, is_xla=False):
    """Chooses the kernels that a training step uses besides the default ones (`accelerate.convolution`).

    None where XLA compiles: it makes kernels of its own, and expands the fused batch normalization to E[x^2] - E[x]^2,
    which cancels where a mean is far from zero. The compiled ones are for one replica on a CPU: raises UserError if
    they are wanted and cannot be compiled.
    """
    if is_xla:
        return {}
    if use_compiled and strategy.num_replicas_in_sync == 1 and not fused.is_on_gpu():
        return compiled.kernels()
    return fused.kernels()
