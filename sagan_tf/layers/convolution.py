"""A 2D convolution that is fast where CPU libraries' are not; knows nothing of GANs."""

import keras
from keras import ops

# Sizes in px up to which matrix products beat oneDNN 3.7's convolutions in bfloat16, measured with and without AMX
# (docs/performance.md): for the kernel's gradient alone, and for all. In float32 they do not.
LARGEST_KERNEL_GRADIENT_BY_PRODUCTS = 8
LARGEST_MAP_BY_PRODUCTS = 4


@keras.saving.register_keras_serializable(package="sagan_tf")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D`: the same weights and numbers, sooner in bfloat16 on a CPU.

    The gradient of a kernel of 3x3x512x512 on maps of 4x4 px is a sum over few positions, which CPU libraries do at a
    tenth of their speed. There, and wherever the kernel is 1x1, all is done by products of matrices: of the patches
    that the kernel meets, (B*H*W, kh*kw*C), and of the kernel or the output's gradient; up to 8x8 px the kernel's
    gradient alone. What this does not fit (strides, dilation, groups, `padding="valid"`, other dtypes, backends and
    devices) is left to Keras.

    Symbols: B batch, H, W height and width in px, C channels, kh, kw size of the kernel, F filters.

    Args: as `keras.layers.Conv2D`.
    Call arguments:
        inputs: Feature map, (B, H, W, C).
    Returns:
        Feature map, (B, H, W, F), or as strides and padding make it.
    Example:
        >>> tuple(Conv2D(8, 3, padding="same")(keras.ops.ones((2, 4, 4, 16))).shape)
        (2, 4, 4, 8)
    Source: the lowering of Chellapilla et al. 2006, "High performance convolutional neural networks for document
        processing", also called im2col.
    """

    def convolution_op(self, inputs, kernel):
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
    if keras.backend.standardize_dtype(inputs.dtype) != "bfloat16" or keras.backend.backend() != "tensorflow":
        return False
    return not keras.distribution.list_devices("gpu")


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
    return ops.concatenate(_shifted(x, kernel), axis=-1)


def _shifted(x, kernel):
    """x as each entry of the kernel meets it, row by row of the kernel: kh*kw of (B, H, W, C)."""
    _, height, width, _ = x.shape
    rows, columns = kernel.shape[:2]
    padded = ops.pad(x, ((0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0)))
    return [padded[:, i : i + height, j : j + width] for i in range(rows) for j in range(columns)]
