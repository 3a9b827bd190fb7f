"""Average pooling that halves a feature map; knows nothing of GANs."""

import keras
from keras import ops

from sagan_tf.accelerate.registry import lent


@keras.saving.register_keras_serializable(package="sagan_tf")
class AveragePooling(keras.Operation):
    """Halves height and width by the mean of 2x2 pixels, by an operation that is lent, if one is.

    An operation and not a layer, because it has no weights: a checkpoint counts layers.

    Symbols: B batch, H, W height and width in px, both even, C channels.

    Call arguments:
        inputs: Feature map, (B, H, W, C).
    Returns:
        Feature map, (B, H/2, W/2, C).
    Example:
        >>> tuple(AveragePooling()(keras.ops.ones((2, 4, 4, 8))).shape)
        (2, 2, 2, 8)
    """

    def call(self, inputs):
        return average_pool(inputs)

    def compute_output_spec(self, inputs):
        batch, height, width, channels = inputs.shape
        halves = (None if size is None else size // 2 for size in (height, width))
        return keras.KerasTensor((batch, *halves, channels), dtype=inputs.dtype)


def average_pool(x):
    """(B, H, W, C) -> (B, H/2, W/2, C)."""
    found = lent("sum_quads", x, 0.25)
    return ops.average_pool(x, 2, 2, data_format="channels_last") if found is None else found
