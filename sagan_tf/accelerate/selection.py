"""Chooses the kernels of a training step by strategy, device and dtype."""

from sagan_tf.accelerate import compiled, fused


def kernels_for(strategy, use_compiled=False, is_xla=False):
    """Chooses the kernels that a training step uses besides the default ones (`accelerate.convolution`).

    Args:
        strategy: tf.distribute.Strategy of the step.
        use_compiled: bool. Use the kernels of `compiled` on one replica on a CPU.
        is_xla: bool. Whether XLA compiles the step.

    Returns:
        dict for `use_kernels`, name of an operation -> `Kernel`. It is

        - empty, on purpose, where XLA compiles: XLA makes kernels of its own, and expands the fused batch normalization
          to E[x^2] - E[x]^2, which cancels where a mean is far from zero;
        - that of `compiled`, alone, where these are wanted and one replica runs on a CPU. What they do not support, and
          `update_moving_average`, then is the reference: the fused one saves launches, which cost time on a GPU;
        - that of `fused` otherwise.

    Raises:
        UserError: The compiled kernels are wanted and cannot be compiled or loaded.
    """
    if is_xla:
        return {}
    if use_compiled and strategy.num_replicas_in_sync == 1 and not fused.is_on_gpu():
        return compiled.kernels()
    return fused.kernels()
