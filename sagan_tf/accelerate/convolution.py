"""Convolution kernels for TensorFlow on a CPU: matrix products on small maps, resampling and convolution in one."""

import math

import keras
import numpy as np
from keras import ops

from sagan_tf.accelerate.registry import Kernel, operation, set_default_kernels

# Largest feature maps, in px, on which matrix products are faster than oneDNN 3.7 in bfloat16 (docs/optimizations.md):
# for the whole convolution, and for the gradient of the kernel alone. In float32 they are not.
LARGEST_MAP = 4
LARGEST_MAP_FOR_KERNEL_GRADIENT = 8
# Smallest size, in px, of the smaller map from which a convolution and its resampling are faster as one.
SMALLEST_RESAMPLED_MAP = {"bfloat16": 16, "float32": 4}


def is_tensorflow_on_cpu():
    """Whether the backend is TensorFlow and there is no GPU."""
    return keras.backend.backend() == "tensorflow" and not keras.distribution.list_devices("gpu")


def is_bfloat16_on_cpu(x, *_):
    """Whether x is bfloat16, on TensorFlow without a GPU."""
    return keras.backend.standardize_dtype(x.dtype) == "bfloat16" and is_tensorflow_on_cpu()


def convolve(x, kernel):
    """`functional.convolve` by matrix products, as far as they are faster."""
    # TensorFlow allows no variables inside a custom gradient; the copy is one in name only.
    kernel = ops.copy(kernel)
    if kernel.shape[:2] == (1, 1):
        return ops.matmul(x, kernel[0, 0])
    return convolve_small(x, kernel) if max(x.shape[1:3]) <= LARGEST_MAP else convolve_medium(x, kernel)


def supports_products(x, kernel):
    """Whether matrix products are faster for this map and kernel."""
    size = x.shape[1:3]
    if None in size or not is_bfloat16_on_cpu(x):
        return False
    return tuple(kernel.shape[:2]) == (1, 1) or max(size) <= LARGEST_MAP_FOR_KERNEL_GRADIENT


@ops.custom_gradient
def convolve_small(x, kernel):
    """Convolves by matrix products of the patches that the kernel covers (im2col), in the gradient too.

    Source: Chellapilla et al. 2006, "High performance convolutional neural networks for document processing".
    """

    def gradient(upstream):
        taps = [kernel[i, j] for i in range(kernel.shape[0]) for j in range(kernel.shape[1])]
        mirrored = zip(_shifted(upstream, *kernel.shape[:2])[::-1], taps)
        of_x = sum(ops.matmul(part, ops.transpose(tap)) for part, tap in mirrored)
        return of_x, _kernel_gradient(x, kernel, upstream)

    return ops.matmul(extract_patches(x, *kernel.shape[:2]), ops.reshape(kernel, (-1, kernel.shape[-1]))), gradient


@ops.custom_gradient
def convolve_medium(x, kernel):
    """Convolves by TensorFlow, with the gradient of the kernel by a matrix product."""

    def gradient(upstream):
        of_x = ops.conv_transpose(upstream, kernel, padding="same", data_format="channels_last")
        return of_x, _kernel_gradient(x, kernel, upstream)

    return ops.conv(x, kernel, padding="same", data_format="channels_last"), gradient


def _kernel_gradient(x, kernel, upstream):
    rows = ops.reshape(extract_patches(x, *kernel.shape[:2]), (-1, math.prod(kernel.shape[:3])))
    product = ops.matmul(ops.transpose(rows), ops.reshape(upstream, (-1, kernel.shape[-1])))
    return ops.reshape(product, kernel.shape)


@operation
def extract_patches(x, height, width):
    """What a kernel (height, width) covers at each position of x: (B, H, W, height * width * C)."""
    return ops.concatenate(_shifted(x, height, width), axis=-1)


def _shifted(x, height, width):
    """x as each tap of a kernel meets it, row by row of the kernel: height * width maps (B, H, W, C)."""
    _, rows, columns, _ = x.shape
    padded = ops.pad(x, ((0, 0), (height // 2, height // 2), (width // 2, width // 2), (0, 0)))
    return [padded[:, i : i + rows, j : j + columns] for i in range(height) for j in range(width)]


def convolve_upsampled(x, kernel):
    """`functional.convolve_upsampled` as one transposed convolution of stride 2 by a kernel of 4x4.

    Each pixel of the result meets every pixel of x once, not up to four times: 16 products in place of 36.

    Source: Karras et al. 2018, progressive growing of GANs, `upscale2d_conv2d`.
    """
    # A transposed convolution turns its kernel round.
    wide = ops.transpose(_widen(kernel, turned=True), (0, 1, 3, 2))
    return ops.conv_transpose(x, wide, strides=2, padding="same", data_format="channels_last")


def convolve_and_pool(x, kernel):
    """`functional.convolve_and_pool` as one convolution of stride 2 by a kernel of 4x4.

    Source: Karras et al. 2018, progressive growing of GANs, `conv2d_downscale2d`.
    """
    wide = _widen(kernel, factor=0.25)
    return ops.conv(x, wide, strides=2, padding="same", data_format="channels_last")


def _widen(kernel, turned=False, factor=1.0):
    """The sum of a 3x3 kernel at the four places of 2x2 pixels, (4, 4, C, F), as one matrix product."""
    sums = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]][:: -1 if turned else 1])
    matrix = ops.convert_to_tensor(factor * np.kron(sums, sums), kernel.dtype)
    return ops.reshape(ops.matmul(matrix, ops.reshape(kernel, (9, -1))), (4, 4, *kernel.shape[2:]))


def _supports_resampling(x, kernel, factor):
    size = x.shape[1:3]
    if tuple(kernel.shape[:2]) != (3, 3) or None in size or any(pixels % 2 for pixels in size):
        return False
    smallest = SMALLEST_RESAMPLED_MAP.get(keras.backend.standardize_dtype(x.dtype))
    return smallest is not None and min(size) // factor >= smallest and is_tensorflow_on_cpu()


@ops.custom_gradient
def add_bias(x, bias):
    """`functional.add_bias` with a gradient of the bias that is summed in float32.

    TensorFlow's BiasAddGrad sums in bfloat16 on a CPU and loses up to nine tenths of a sum over a large map.
    """

    def gradient(upstream):
        # Over a row of positions in bfloat16, which rounds once: no float32 copy of the map is made.
        dtype = keras.backend.result_type(x.dtype, "float32")
        sums = ops.sum(ops.cast(ops.sum(upstream, axis=2), dtype), axis=1)
        return upstream, ops.cast(ops.sum(sums, axis=0), bias.dtype)

    return ops.add(x, ops.reshape(bias, (1, 1, 1, -1))), gradient


set_default_kernels({
    "convolve": Kernel(convolve, supports_products),
    "convolve_upsampled": Kernel(convolve_upsampled, lambda x, kernel: _supports_resampling(x, kernel, 1)),
    "convolve_and_pool": Kernel(convolve_and_pool, lambda x, kernel: _supports_resampling(x, kernel, 2)),
    "add_bias": Kernel(lambda x, bias: add_bias(x, ops.copy(bias)), is_bfloat16_on_cpu),
})  # fmt: skip
