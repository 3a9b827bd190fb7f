"""Adam whose update of a weight is one operation; TensorFlow."""

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable(package="sagan_tf")
class FusedAdam(keras.optimizers.Adam):
    """`keras.optimizers.Adam`, the same numbers and the same slots, computed by TensorFlow's own Adam operation.

    Keras writes the update as a dozen operations a weight, each of which reads and writes memory of the weight's size;
    TensorFlow's kernel goes through it once. Checkpoints of either load into the other. What the kernel does not know
    (`amsgrad`) is left to Keras.

    Args: as `keras.optimizers.Adam`.
    Example:
        >>> FusedAdam(1e-4, beta_1=0.0, beta_2=0.9).get_config()["beta_2"]
        0.9
    Source: Kingma and Ba 2015, https://arxiv.org/abs/1412.6980, the form before section 2.1 (epsilon hat), as in Keras.
    """

    def update_step(self, gradient, variable, learning_rate):
        """Moves one weight; `apply` calls it."""
        if self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        index, dtype = self._get_variable_index(variable), variable.dtype
        step = ops.cast(self.iterations + 1, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[index]),
            v=_handle(self._velocities[index]),
            beta1_power=ops.power(ops.cast(self.beta_1, dtype), step),
            beta2_power=ops.power(ops.cast(self.beta_2, dtype), step),
            lr=ops.cast(learning_rate, dtype),
            beta1=ops.cast(self.beta_1, dtype),
            beta2=ops.cast(self.beta_2, dtype),
            epsilon=ops.cast(self.epsilon, dtype),
            grad=ops.cast(gradient, dtype),
        )


def _handle(variable):
    """What TensorFlow's operations call a variable by; inside `extended.update`, that of the replica's own copy."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle
