"""Nearest-neighbor upsampling by two."""

import keras

from sagan_tf.layers.functional import upsample_with_pooled_gradient


@keras.saving.register_keras_serializable(package="sagan_tf")
class NearestUpsampling(keras.layers.Layer):
    """Doubles height and width by copying each pixel to four.

    The same as `keras.layers.UpSampling2D`, with a gradient that is faster on a CPU.

    Symbols: B batch, H, W height and width in px, C channels.

    Call arguments:
        inputs: Feature map, (B, H, W, C).

    Returns:
        Feature map, (B, 2H, 2W, C).

    Example:
        >>> tuple(NearestUpsampling()(keras.ops.ones((2, 4, 4, 8))).shape)
        (2, 8, 8, 8)
    """

    def call(self, inputs):
        return upsample_with_pooled_gradient(inputs)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return batch, height and 2 * height, width and 2 * width, channels
