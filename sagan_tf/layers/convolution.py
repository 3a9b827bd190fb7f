"""A 2D convolution that is fast where CPU libraries' are not; knows nothing of GANs."""

import keras
import numpy as np
from keras import ops

from sagan_tf.accelerate.registry import lent
from sagan_tf.layers.average_pooling import average_pool
from sagan_tf.layers.nearest_upsampling import NearestUpsampling
from sagan_tf.layers.sums import add_bias

# Sizes in px up to which matrix products beat oneDNN 3.7's convolutions in bfloat16, measured with and without AMX
# (docs/performance.md): for the kernel's gradient alone, and for all. In float32 they do not.
LARGEST_KERNEL_GRADIENT_BY_PRODUCTS = 8
LARGEST_MAP_BY_PRODUCTS = 4
# Sizes in px of the smaller map from which a convolution and its resampling are sooner made as one.
SMALLEST_RESAMPLED_AT_ONCE = {"bfloat16": 16, "float32": 4}


@keras.saving.register_keras_serializable(package="sagan_tf")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D`: the same weights and numbers, sooner on a CPU; up- or down-samples on the way, if asked.

    The gradient of a kernel of 3x3x512x512 on maps of 4x4 px is a sum over few positions, which CPU libraries do at a
    tenth of their speed. There, and wherever the kernel is 1x1, all is done by products of matrices, in bfloat16: of
    the patches that the kernel meets, (B*H*W, kh*kw*C), and of the kernel or the output's gradient; up to 8x8 px the
    kernel's gradient alone.

    A 3x3 convolution of a map whose pixels have just been doubled meets each of them more than once, and so does one
    whose output is averaged over 2x2 px. Both are a convolution of stride 2, transposed or not, by a kernel of 4x4 that
    is the sum of four of the 3x3 ones: 16 products where there were 36, and no map of the full size between.

    The gradient of a bias in bfloat16 is summed in float32, where TensorFlow on a CPU does so in bfloat16 and loses up
    to nine tenths of it.

    What neither fits (strides, dilation, groups, `padding="valid"`, other dtypes, backends and devices) is left to
    Keras.

    Symbols: B batch, H, W height and width in px, C channels, kh, kw size of the kernel, F filters.

    Args:
        resampling: `up`: convolves the map with height and width doubled, each pixel copied to four. `down`: averages
            what the layer without an activation gives over 2x2 px. None: neither.
        Others as `keras.layers.Conv2D`.
    Call arguments:
        inputs: Feature map, (B, H, W, C).
    Returns:
        Feature map, (B, H, W, F), or as strides, padding and resampling make it.
    Raises:
        ValueError: `resampling` is unknown, or goes with strides, `padding="valid"`, channels first, or, if `down`,
            an activation.
    Example:
        >>> tuple(Conv2D(8, 3, padding="same", resampling="up")(keras.ops.ones((2, 4, 4, 16))).shape)
        (2, 8, 8, 8)
    Source: the lowering of Chellapilla et al. 2006, "High performance convolutional neural networks for document
        processing", also called im2col; the pooled kernel is that of Karras et al. 2018 (progressive GAN's
        `conv2d_downscale2d`).
    """

    def __init__(self, filters, kernel_size, *args, resampling=None, **kwargs):
        super().__init__(filters, kernel_size, *args, **kwargs)
        if resampling not in (None, "up", "down"):
            raise ValueError(f"`resampling` must be 'up', 'down' or None. Received: {resampling=}.")
        active = resampling == "down" and self.activation is not keras.activations.linear
        keeps_size = set(self.strides) == {1} and self.padding == "same" and self.data_format == "channels_last"
        if resampling and (active or not keeps_size):
            raise ValueError(
                "`resampling` needs strides of 1, `padding='same'` and channels last, and to average no activation. "
                f"Received: {resampling=}, strides={self.strides}, padding={self.padding!r}, "
                f"data_format={self.data_format!r}, activation={self.activation.__name__}."
            )
        self.resampling = resampling

    def get_config(self):
        return {**super().get_config(), "resampling": self.resampling}

    def compute_output_shape(self, input_shape):
        batch, height, width, filters = super().compute_output_shape(input_shape)
        if self.resampling == "up":
            height, width = (None if size is None else 2 * size for size in (height, width))
        elif self.resampling == "down":
            height, width = (None if size is None else size // 2 for size in (height, width))
        return batch, height, width, filters

    def call(self, inputs):
        if not (self.use_bias and self.data_format == "channels_last" and products_pay(inputs)):
            return super().call(inputs)
        bias = ops.copy(ops.cast(self.bias, inputs.dtype))  # no variable, as for the kernel below
        outputs = add_bias(self.convolution_op(inputs, self.kernel), bias, self._takes_bias(inputs))
        return outputs if self.activation is None else self.activation(outputs)

    def convolution_op(self, inputs, kernel):
        if self.resampling and self._resamples_at_once(inputs):
            return (convolve_upsampled if self.resampling == "up" else convolve_and_average)(inputs, kernel)
        outputs = self._convolve(NearestUpsampling()(inputs) if self.resampling == "up" else inputs, kernel)
        return average_pool(outputs) if self.resampling == "down" else outputs

    def _takes_bias(self, inputs):
        """Whether a convolution comes last, and none transposed: TensorFlow's optimiser makes the bias part of it."""
        if self.resampling and self._resamples_at_once(inputs):
            return self.resampling == "down"
        if self.resampling == "down":
            return False
        height, width = inputs.shape[1:3]
        if None in (height, width) or not self._is_plain():
            return True
        factor = 2 if self.resampling == "up" else 1
        return self.kernel_size != (1, 1) and factor * max(height, width) > LARGEST_MAP_BY_PRODUCTS

    def _resamples_at_once(self, inputs):
        sizes = inputs.shape[1:3]
        if self.kernel_size != (3, 3) or not self._is_plain() or None in sizes or any(size % 2 for size in sizes):
            return False
        least = SMALLEST_RESAMPLED_AT_ONCE.get(keras.backend.standardize_dtype(inputs.dtype))
        smaller = min(sizes) // (2 if self.resampling == "down" else 1)
        return least is not None and smaller >= least and is_tensorflow_on_cpu()

    def _convolve(self, inputs, kernel):
        sizes = inputs.shape[1:3]
        if None in sizes or not self._is_plain() or not products_pay(inputs):
            return super().convolution_op(inputs, kernel)
        # A copy in name alone: TensorFlow wants no variables inside a written-out gradient.
        kernel = ops.copy(ops.cast(kernel, inputs.dtype))
        if self.kernel_size == (1, 1):
            return ops.matmul(inputs, kernel[0, 0])
        if max(sizes) <= LARGEST_MAP_BY_PRODUCTS:
            return convolve_by_products(inputs, kernel)
        if max(sizes) <= LARGEST_KERNEL_GRADIENT_BY_PRODUCTS:
            return convolve_with_kernel_gradient_by_products(inputs, kernel)
        return super().convolution_op(inputs, kernel)

    def _is_plain(self):
        odd = all(size % 2 == 1 for size in self.kernel_size)
        same = self.padding == "same" or self.kernel_size == (1, 1)
        plain = set(self.strides) == set(self.dilation_rate) == {1} and self.groups == 1
        return odd and same and plain and self.data_format == "channels_last"


def products_pay(inputs):
    """Says whether this is bfloat16 on TensorFlow without a GPU."""
    return keras.backend.standardize_dtype(inputs.dtype) == "bfloat16" and is_tensorflow_on_cpu()


def is_tensorflow_on_cpu():
    """Says whether this is TensorFlow without a GPU."""
    return keras.backend.backend() == "tensorflow" and not keras.distribution.list_devices("gpu")


def convolve_upsampled(inputs, kernel):
    """Convolves a map of doubled pixels at stride 1 with zeros around, without making it.

    Args:
        inputs: (B, H, W, C).
        kernel: (3, 3, C, F).

    Returns:
        (B, 2H, 2W, F).
    """
    # A transposed convolution turns its kernel round.
    wide = _widened(ops.cast(kernel, inputs.dtype), turned=True)
    return ops.conv_transpose(
        inputs, ops.transpose(wide, (0, 1, 3, 2)), strides=2, padding="same", data_format="channels_last"
    )


def convolve_and_average(inputs, kernel):
    """Convolves at stride 1 with zeros around and averages over 2x2 px, at once.

    Args:
        inputs: (B, H, W, C), H and W even.
        kernel: (3, 3, C, F).

    Returns:
        (B, H/2, W/2, F).
    """
    wide = _widened(ops.cast(kernel, inputs.dtype), factor=0.25)
    return ops.conv(inputs, wide, strides=2, padding="same", data_format="channels_last")


def _widened(kernel, turned=False, factor=1.0):
    """The sum of a 3x3 kernel at the four places of 2x2 px, (4, 4, C, F), as one product."""
    sums = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]][:: -1 if turned else 1])
    matrix = ops.convert_to_tensor(factor * np.kron(sums, sums), kernel.dtype)
    return ops.reshape(ops.matmul(matrix, ops.reshape(kernel, (9, -1))), (4, 4, *kernel.shape[2:]))


@ops.custom_gradient
def convolve_by_products(inputs, kernel):
    """Convolves at stride 1 with zeros around, by products of matrices, also in the gradient.

    Args:
        inputs: (B, H, W, C).
        kernel: (kh, kw, C, F), kh and kw odd.

    Returns:
        (B, H, W, F).
    """

    def gradient(*arguments, upstream=None):
        upstream = arguments[0] if upstream is None else upstream  # by name on PyTorch alone
        factors = [kernel[i, j] for i in range(kernel.shape[0]) for j in range(kernel.shape[1])]
        mirrored = zip(_shifted(upstream, kernel)[::-1], factors)
        of_inputs = sum(ops.matmul(part, ops.transpose(factor)) for part, factor in mirrored)
        return of_inputs, _kernel_gradient(inputs, kernel, upstream)

    return ops.matmul(_patches(inputs, kernel), ops.reshape(kernel, (-1, kernel.shape[-1]))), gradient


@ops.custom_gradient
def convolve_with_kernel_gradient_by_products(inputs, kernel):
    """As `convolve_by_products`, with products for the kernel's gradient alone."""

    def gradient(*arguments, upstream=None):
        upstream = arguments[0] if upstream is None else upstream
        of_inputs = ops.conv_transpose(upstream, kernel, padding="same", data_format="channels_last")
        return of_inputs, _kernel_gradient(inputs, kernel, upstream)

    return ops.conv(inputs, kernel, padding="same", data_format="channels_last"), gradient


def _kernel_gradient(inputs, kernel, upstream):
    rows = ops.reshape(_patches(inputs, kernel), (-1, kernel.shape[0] * kernel.shape[1] * kernel.shape[2]))
    product = ops.matmul(ops.transpose(rows), ops.reshape(upstream, (-1, kernel.shape[-1])))
    return ops.reshape(product, kernel.shape)


def _patches(x, kernel):
    """What the kernel meets at each position, (B, H, W, kh*kw*C)."""
    found = lent("patches", x, *kernel.shape[:2])
    if found is not None:
        return found
    return ops.concatenate(_shifted(x, kernel), axis=-1)


def _shifted(x, kernel):
    """x as each entry of the kernel meets it, row by row of the kernel: kh*kw of (B, H, W, C)."""
    _, height, width, _ = x.shape
    rows, columns = kernel.shape[:2]
    padded = ops.pad(x, ((0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0)))
    return [padded[:, i : i + height, j : j + width] for i in range(rows) for j in range(columns)]
