"""ReLU that a device may have a faster kernel for."""

import keras

from sagan_tf.layers.functional import relu


@keras.saving.register_keras_serializable(package="sagan_tf")
class ReLU(keras.layers.Layer):
    """max(x, 0), element by element.

    Call arguments:
        inputs: Tensor of any shape.

    Returns:
        Tensor of the same shape.

    Example:
        >>> tuple(ReLU()(keras.ops.ones((2, 4))).shape)
        (2, 4)
    """

    def call(self, inputs):
        return relu(inputs)

    def compute_output_shape(self, input_shape):
        return input_shape
