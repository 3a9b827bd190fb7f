"""Nearest-neighbour up-sampling by two with a cheap gradient; knows nothing of GANs."""

import keras
from keras import ops

from sagan_tf.accelerate.registry import lent


@keras.saving.register_keras_serializable(package="sagan_tf")
class NearestUpsampling(keras.Operation):
    """Doubles height and width by copying each pixel to four.

    `keras.layers.UpSampling2D` computes the same, but TFLite cannot convert it for batches of unknown size; and its
    gradient on a CPU adds pixel by pixel, where an average pooling gives the same four-pixel sums. An operation and not
    a layer, because it has no weights: a checkpoint counts layers.

    Symbols: B batch, H, W height and width in px, C channels.

    Call arguments:
        inputs: Feature map, (B, H, W, C), H and W known.
    Returns:
        Feature map, (B, 2H, 2W, C).
    Example:
        >>> tuple(NearestUpsampling()(keras.ops.ones((2, 4, 4, 8))).shape)
        (2, 8, 8, 8)
    """

    def call(self, inputs):
        return _upsample(inputs)

    def compute_output_spec(self, inputs):
        batch, height, width, channels = inputs.shape
        return keras.KerasTensor((batch, 2 * height, 2 * width, channels), dtype=inputs.dtype)


def upsample(x):
    """(B, H, W, C) -> (B, 2H, 2W, C)."""
    size = (2 * x.shape[1], 2 * x.shape[2])
    return ops.image.resize(x, size, interpolation="nearest", data_format="channels_last")


@ops.custom_gradient
def _upsample(x):
    def gradient(*arguments, upstream=None):
        upstream = arguments[0] if upstream is None else upstream  # by name on PyTorch alone
        found = lent("sum_quads", upstream, 1.0)
        return 4 * ops.average_pool(upstream, 2, 2, data_format="channels_last") if found is None else found

    found = lent("repeat_quads", x, 1.0)
    return upsample(x) if found is None else found, gradient
