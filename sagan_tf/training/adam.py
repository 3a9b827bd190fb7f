"""Adam with one operation per weight."""

import keras
import tensorflow as tf
from keras import ops

from sagan_tf.layers.keras_compat import adam_slots


@keras.saving.register_keras_serializable(package="sagan_tf")
class FusedAdam(keras.optimizers.Adam):
    """`keras.optimizers.Adam` with the same results and slots, computed by TensorFlow's fused Adam operation.

    Keras updates a weight by a dozen operations, each of which passes over memory of its size; the fused operation does
    it in one pass. `amsgrad`, which it does not know, is left to Keras.

    Args: as `keras.optimizers.Adam`.

    Example:
        >>> FusedAdam(1e-4, beta_1=0.0, beta_2=0.9).get_config()["beta_2"]
        0.9

    Source: Kingma and Ba 2015, https://arxiv.org/abs/1412.6980, the form before section 2.1 (epsilon hat), as in Keras.
    """

    def update_step(self, gradient, variable, learning_rate):
        if self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        momentum, velocity = adam_slots(self, variable)
        dtype = variable.dtype
        step = ops.cast(self.iterations + 1, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(momentum),
            v=_handle(velocity),
            beta1_power=ops.power(ops.cast(self.beta_1, dtype), step),
            beta2_power=ops.power(ops.cast(self.beta_2, dtype), step),
            lr=ops.cast(learning_rate, dtype),
            beta1=ops.cast(self.beta_1, dtype),
            beta2=ops.cast(self.beta_2, dtype),
            epsilon=ops.cast(self.epsilon, dtype),
            grad=ops.cast(gradient, dtype),
        )


def _handle(variable):
    # Inside `extended.update` a variable is the replica's own copy, not a Keras variable.
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle
