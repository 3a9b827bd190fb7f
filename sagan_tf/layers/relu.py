"""ReLU; knows nothing of GANs."""

import keras

from sagan_tf.accelerate.registry import lent


@keras.saving.register_keras_serializable(package="sagan_tf")
class ReLU(keras.layers.ReLU):
    """`keras.layers.ReLU`, by an operation that is lent, if one is.

    Args: as `keras.layers.ReLU`.
    Call arguments:
        inputs: Tensor of any shape.
    Returns:
        Tensor of the same shape.
    Example:
        >>> tuple(ReLU()(keras.ops.ones((2, 4))).shape)
        (2, 4)
    """

    def call(self, inputs):
        plain = self.max_value is None and not self.negative_slope and not self.threshold
        found = lent("rectify", inputs) if plain else None
        return super().call(inputs) if found is None else found
