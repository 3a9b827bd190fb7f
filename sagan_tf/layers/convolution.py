"""A 2D convolution with optional upsampling before it or average pooling after it."""

from typing import Any

import keras
from keras import ops

from sagan_tf.layers import functional


@keras.saving.register_keras_serializable(package="sagan_tf")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with the same weights, which upsamples before or average-pools after it on request.

    Convolutions of odd kernels with stride 1 and `padding="same"`, channels last, are computed by `layers.functional`,
    where a device may have faster kernels (`sagan_tf.accelerate`); all others by Keras.

    Symbols: B batch, H, W height and width in px, C channels, F filters.

    Args:
        resampling: `up`: convolves the map with height and width doubled, each pixel copied to four. `down`: averages
            the result over 2x2 pixels. None: neither.
        **kwargs: All others as in `keras.layers.Conv2D`.

    Call arguments:
        inputs: Feature map, (B, H, W, C), floating point.

    Returns:
        Feature map, (B, H, W, F), or as strides, padding and resampling make it.

    Raises:
        ValueError: `resampling` is unknown, or is combined with strides, `padding="valid"`, channels first, dilation,
            groups, an even kernel, or, if `down`, an activation; or the inputs are integers.

    Example:
        >>> tuple(Conv2D(8, 3, padding="same", resampling="up")(keras.ops.ones((2, 4, 4, 16))).shape)
        (2, 8, 8, 8)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        *args: Any,
        resampling: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(filters, kernel_size, *args, **kwargs)
        if resampling not in (None, "up", "down"):
            raise ValueError(f"`resampling` must be 'up', 'down' or None. Received: {resampling=}.")
        activated = resampling == "down" and self.activation is not keras.activations.linear
        if resampling and (activated or not self._is_plain()):
            raise ValueError(
                "`resampling` needs an odd kernel, strides of 1, `padding='same'` and channels last, no dilation or "
                f"groups, and with 'down' no activation. Received: {resampling=}, kernel_size={self.kernel_size}, "
                f"strides={self.strides}, padding={self.padding!r}, data_format={self.data_format!r}, "
                f"dilation_rate={self.dilation_rate}, groups={self.groups}, activation={self.activation.__name__}."
            )
        self.resampling = resampling

    def _is_plain(self):
        odd = all(size % 2 == 1 for size in self.kernel_size)
        same = self.padding == "same" or self.kernel_size == (1, 1)
        dense = set(self.strides) == set(self.dilation_rate) == {1} and self.groups == 1
        return odd and same and dense and self.data_format == "channels_last"

    def call(self, inputs):
        if not (self.use_bias and self.data_format == "channels_last"):
            return super().call(inputs)
        outputs = self.convolution_op(inputs, self.kernel)
        outputs = functional.add_bias(outputs, ops.cast(self.bias, inputs.dtype))
        return outputs if self.activation is None else self.activation(outputs)

    def convolution_op(self, inputs, kernel):
        if not self._is_plain():
            return super().convolution_op(inputs, kernel)
        if not keras.backend.is_float_dtype(inputs.dtype):  # the cast below would round the kernel to integers
            dtype = keras.backend.standardize_dtype(inputs.dtype)
            raise ValueError(f"`Conv2D` takes feature maps of floating point. Received: {dtype}.")
        convolve = {
            None: functional.convolve, "up": functional.convolve_upsampled, "down": functional.convolve_and_pool
        }[self.resampling]  # fmt: skip
        return convolve(inputs, ops.cast(kernel, inputs.dtype))

    def compute_output_shape(self, input_shape):
        batch, height, width, filters = super().compute_output_shape(input_shape)
        if self.resampling == "up":
            height, width = (None if size is None else 2 * size for size in (height, width))
        elif self.resampling == "down":
            height, width = (None if size is None else size // 2 for size in (height, width))
        return batch, height, width, filters

    def get_config(self):
        return {**super().get_config(), "resampling": self.resampling}
