"""Dynamic loss scaling, for training in float16."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from sagan_tf.layers.keras_compat import child_layers

# At the smallest scale no gradient of a healthy run overflows float16. The largest is that of NVIDIA's Apex.
MINIMUM_SCALE, MAXIMUM_SCALE = 2.0**-10, 2.0**24


@keras.saving.register_keras_serializable(package="sagan_tf")
class DynamicLossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """`keras.optimizers.LossScaleOptimizer` for any number of replicas, with a bounded scale and a counter.

    A step whose gradients are not finite on any replica is skipped on all, and halves the scale. (Keras 3.15 lets the
    first replica decide, which applies the overflow of another.) The scale stays in [2^-10, 2^24].

    Args: as `keras.optimizers.LossScaleOptimizer`.
    Attributes:
        dynamic_scale: Variable, float32, the current scale.
        skipped_steps: Variable, int, the steps skipped so far.
    Example:
        >>> optimizer = DynamicLossScaleOptimizer(keras.optimizers.SGD(0.1))
        >>> weight = keras.Variable([1.0])
        >>> optimizer.build([weight])
        >>> optimizer.apply([tf.constant([np.inf])], [weight])
        >>> float(weight[0]), float(optimizer.dynamic_scale), int(optimizer.skipped_steps)
        (1.0, 16384.0, 1)

    Source: Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740.
    """

    def build(self, var_list: list[keras.Variable]) -> None:
        if self.built:
            return
        super().build(var_list)
        self.skipped_steps = self.add_variable((), dtype="int", name="skipped_steps")

    @property
    def scale_variables(self):
        """The scale, the steps since it changed, and the skipped steps."""
        return [self.dynamic_scale, self.step_counter, self.skipped_steps] if self.built else []

    @property
    def variables(self):
        """Those of the scale and of the inner optimizer, whose step and learning rate are in use."""
        return self.scale_variables + self.inner_optimizer.variables

    def apply(self, grads, trainable_variables=None):
        is_finite = self.check_finite(grads)
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            context = tf.distribute.get_replica_context()
            is_finite = context.all_reduce("SUM", tf.cast(~is_finite, tf.float32)) == 0
            # Keras checks once more, on the first replica.
            grads = [g if g is None else tf.where(is_finite, g, tf.constant(np.nan, g.dtype)) for g in grads]
        super().apply(grads, trainable_variables)
        self.skipped_steps.assign_add(ops.cast(~is_finite, self.skipped_steps.dtype))
        self.dynamic_scale.assign(ops.clip(self.dynamic_scale, MINIMUM_SCALE, MAXIMUM_SCALE))


class SkippedStep:
    """Undoes what a skipped optimizer step changed besides the weights: batch statistics, u, means of metrics.

    Args:
        optimizer: Keras optimizer that is about to make a step; without dynamic scaling no step is skipped.
        variables: What to undo.
    """

    def __init__(self, optimizer, variables):
        self._optimizer = optimizer if isinstance(optimizer, DynamicLossScaleOptimizer) else None
        if self._optimizer is not None:
            self._count = tf.identity(optimizer.skipped_steps)
            self._values = [(variable, tf.identity(variable)) for variable in variables]

    def undo(self):
        """Undoes the step if it was skipped. Returns whether it was not: True, or a scalar tensor."""
        if self._optimizer is None:
            return True
        is_applied = tf.equal(self._optimizer.skipped_steps, self._count)
        for variable, value in self._values:
            variable.assign(tf.where(is_applied, variable, value))
        return is_applied


def with_loss_scaling(optimizer, networks):
    """Wraps an optimizer in `DynamicLossScaleOptimizer` where a network computes in float16.

    As `compile` of a Keras model does in mixed_float16, but that a fixed `loss_scale_factor` is left as it is. A
    `LossScaleOptimizer` of Keras is replaced, around its inner optimizer.
    """
    if isinstance(optimizer, DynamicLossScaleOptimizer):
        return optimizer
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        options = optimizer.initial_scale, optimizer.dynamic_growth_steps
        return DynamicLossScaleOptimizer(optimizer.inner_optimizer, *options)
    if optimizer.loss_scale_factor is None and any(map(_computes_in_float16, networks)):
        return DynamicLossScaleOptimizer(optimizer)
    return optimizer


def _computes_in_float16(layer):
    return layer.compute_dtype == "float16" or any(map(_computes_in_float16, child_layers(layer)))


def loss_scaling_optimizers(gan):
    """Optimizers of a SAGAN that scale the loss dynamically: dict, `generator` or `discriminator` -> optimizer."""
    optimizers = {name: getattr(gan, f"{name}_optimizer", None) for name in ("generator", "discriminator")}
    return {name: one for name, one in optimizers.items() if isinstance(one, DynamicLossScaleOptimizer)}


def inner_loss_scale(optimizer):
    """Scale of the inner one of two nested gradients: a power of two, about the root of the loss scale.

    The gradient of a squared gradient passes through the network twice; both passes then get the same share of the
    scale. With all of it in the second pass that one overflows, and the first one underflows.
    """
    scale = ops.convert_to_tensor(optimizer.scale_loss(1.0), "float32")
    return ops.power(2.0, ops.floor(ops.log2(scale) / 2))
