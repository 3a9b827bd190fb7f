"""Adam with one operation per weight."""

import keras
import tensorflow as tf
from keras import ops

from sagan_tf.layers.keras_compat import PreparedAdam, adam_slots


@keras.saving.register_keras_serializable(package="sagan_tf")
class FusedAdam(PreparedAdam):
    """`keras.optimizers.Adam` with the same results and slots, computed by TensorFlow's fused Adam operation.

    Keras updates a weight by a dozen operations, each of which passes over memory of its size; the fused operation does
    it in one pass. `amsgrad`, which it does not know, is left to Keras.

    Args: as `keras.optimizers.Adam`.

    Example:
        >>> FusedAdam(1e-4, beta_1=0.0, beta_2=0.9).get_config()["beta_2"]
        0.9

    Source: Kingma and Ba 2015, https://arxiv.org/abs/1412.6980, the form before section 2.1 (epsilon hat), as in Keras.
    """

    def prepare(self, learning_rate, variables):
        if self.amsgrad:
            return super().prepare(learning_rate, variables)
        return {dtype: self._scalars(learning_rate, dtype) for dtype in sorted({v.dtype for v in variables})}

    def _scalars(self, learning_rate, dtype):
        rate, beta1, beta2, epsilon, step = (
            ops.cast(value, dtype)
            for value in (learning_rate, self.beta_1, self.beta_2, self.epsilon, self.iterations + 1)
        )
        powers = dict(beta1_power=ops.power(beta1, step), beta2_power=ops.power(beta2, step))
        return dict(lr=rate, beta1=beta1, beta2=beta2, epsilon=epsilon, **powers)

    def update_step(self, gradient, variable, learning_rate):
        if self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        momentum, velocity = (_handle(slot) for slot in adam_slots(self, variable))
        scalars, grad = (
            learning_rate[keras.backend.standardize_dtype(variable.dtype)],
            ops.cast(gradient, variable.dtype),
        )
        tf.raw_ops.ResourceApplyAdam(var=_handle(variable), m=momentum, v=velocity, grad=grad, **scalars)


def _handle(variable):
    # Inside `extended.update` a variable is the replica's own copy, not a Keras variable.
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle
