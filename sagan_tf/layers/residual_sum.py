"""The sum at the end of a residual block."""

import keras

from sagan_tf.layers.functional import add_maps


@keras.saving.register_keras_serializable(package="sagan_tf")
class ResidualSum(keras.layers.Add):
    """`keras.layers.Add` of two feature maps, written so that TensorFlow's graph optimizer can process it.

    Symbols: B batch, H, W height and width in px, C channels.

    Call arguments:
        inputs: List of two feature maps, (B, H, W, C).

    Returns:
        Feature map, (B, H, W, C).

    Raises:
        ValueError: The inputs are not two feature maps of one shape: unlike `keras.layers.Add`, none is broadcast.

    Example:
        >>> tuple(ResidualSum()([keras.ops.ones((2, 4, 4, 8)), keras.ops.ones((2, 4, 4, 8))]).shape)
        (2, 4, 4, 8)
    """

    def call(self, inputs):
        shapes = [tuple(x.shape) for x in inputs]
        if len(shapes) != 2 or len(shapes[0]) != 4 or shapes[0][1:] != shapes[1][1:]:
            raise ValueError(f"`ResidualSum` takes two feature maps of one shape (B, H, W, C). Received: {shapes}.")
        return add_maps(*inputs)
