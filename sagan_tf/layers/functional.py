"""Reference operations of the layers, in keras.ops; those marked `operation` can be replaced by faster kernels."""

import math
from typing import Any, NamedTuple

import keras
from keras import ops

from sagan_tf.accelerate.registry import operation
from sagan_tf.layers.keras_compat import KEEPS_INTERMEDIATES, custom_gradient


@operation
def relu(x):
    """max(x, 0)."""
    return ops.relu(x)


@operation
def add_maps(x, y):
    """x + y, for two feature maps (B, H, W, C) of the same shape."""
    # TensorFlow 2.21's graph optimizer (remapper) fails on a sum that follows a convolution and is read more than
    # once, and then gives up the whole graph. It does not recognize the same sum over flattened positions.
    _, height, width, channels = x.shape
    if height is None or width is None:
        return ops.add(x, y)
    positions = [ops.reshape(part, (-1, height * width, channels)) for part in (x, y)]
    return ops.reshape(ops.add(*positions), (-1, height, width, channels))


@operation
def add_bias(x, bias):
    """x (B, H, W, C) + bias (C,)."""
    return ops.add(x, bias)


def average_pool(x):
    """Halves height and width of (B, H, W, C) by the mean of 2x2 pixels."""
    return ops.average_pool(x, 2, 2, data_format="channels_last")


def upsample(x):
    """Doubles height and width of (B, H, W, C) by copying each pixel to four."""
    _, height, width, _ = x.shape
    if height is None or width is None:  # Keras resizes to known sizes only
        return ops.repeat(ops.repeat(x, 2, axis=1), 2, axis=2)
    return ops.image.resize(x, (2 * height, 2 * width), interpolation="nearest", data_format="channels_last")


@custom_gradient
def upsample_with_pooled_gradient(x):
    """As `upsample`; the gradient is a pooling, faster on a CPU than TensorFlow's, which adds pixel by pixel."""
    return upsample(x), lambda upstream: 4 * average_pool(upstream)


@operation
def convolve(x, kernel):
    """Convolves (B, H, W, C) by (kh, kw, C, F) with stride 1 and zero padding: (B, H, W, F)."""
    return ops.conv(x, kernel, padding="same", data_format="channels_last")


@operation
def convolve_upsampled(x, kernel):
    """Upsamples, then convolves: (B, H, W, C) to (B, 2H, 2W, F)."""
    return convolve(upsample_with_pooled_gradient(x), kernel)


@operation
def convolve_and_pool(x, kernel):
    """Convolves, then averages over 2x2 pixels: (B, H, W, C) to (B, H/2, W/2, F)."""
    return average_pool(convolve(x, kernel))


@operation
def batch_normalize(x, scale, offset, epsilon, synchronized):
    """Normalizes each channel by the statistics of the batch, then scales and shifts it.

    Args:
        x: (B, ..., C).
        scale, offset: (B, C) or (1, C), float32 or wider.
        epsilon: float, added to the variance.
        synchronized: bool. Take the statistics over all replicas.

    Returns:
        (outputs (B, ..., C), mean (C,), variance (C,)), statistics in the dtype of `scale`.
    """

    def mean_of_images(rows):
        return ops.moments(rows, axes=[0], synchronized=synchronized)[0]

    # E[x^2] - E[x]^2 would cancel where the mean is large: the variance within images, plus that of their means.
    means, variances = ops.split(_image_moments(x), 2, axis=-1)
    mean = mean_of_images(means)
    variance = mean_of_images(variances + ops.square(means - mean))
    return normalize(x, mean, variance, scale, offset, epsilon), mean, variance


@operation
def update_moving_average(variable, target, rate):
    """Moves a variable toward a target, a tensor of its shape, by a fraction `rate`."""
    variable.assign(ops.cast(variable, target.dtype) * (1 - rate) + target * rate)


def normalize(x, mean, variance, scale, offset, epsilon):
    """(x - mean) / sqrt(variance + epsilon) * scale + offset, with the shapes of `batch_normalize`."""
    rows = (ops.shape(x)[0], x.shape[-1])
    parts = (mean, scale * ops.rsqrt(variance + epsilon), offset)
    return center_and_scale(x, *(ops.broadcast_to(part, rows) for part in parts))


@custom_gradient
def _image_moments(x):
    """Mean and variance over the positions of each image of x (B, ..., C): (B, 2C), float32 or wider."""
    dtype, axes = keras.backend.result_type(x.dtype, "float32"), _position_axes(x)
    count = ops.cast(math.prod(ops.shape(x)[axis] for axis in axes), dtype)
    wide = ops.cast(x, dtype)
    mean = ops.mean(wide, axis=axes)
    variance = ops.mean(ops.square(wide - _over_positions(mean, wide)), axis=axes)

    def gradient(upstream):
        of_mean, of_variance = ops.split(upstream / count, 2, axis=-1)
        centered, excess = _center(x, mean if KEEPS_INTERMEDIATES else ops.mean(ops.cast(x, dtype), axis=axes))
        coefficient = 2 * of_variance
        return centered * _over_positions(coefficient, x) + _over_positions(of_mean - excess * coefficient, x)

    return ops.concatenate([mean, variance], axis=-1), gradient


@custom_gradient
def center_and_scale(x, mean, scale, offset):
    """(x - mean) * scale + offset for x (B, ..., C) and rows (B, C) in float32 or wider, computed in their dtype.

    The gradient of x, and the products that are summed for the others, are computed in the dtype of x, so that no wide
    copy of the feature map is kept.
    """

    def gradient(upstream):
        centered, excess = _center(x, mean)
        products, total = (sum_positions(part, scale.dtype) for part in (upstream * centered, upstream))
        return upstream * _over_positions(scale, x), -scale * total, products - excess * total, total

    wide = ops.cast(x, scale.dtype)
    scaled = wide * _over_positions(scale, wide) + _over_positions(offset - mean * scale, wide)
    return ops.cast(scaled, x.dtype), gradient


def _center(x, mean):
    """x (B, ..., C) minus the mean (B, C) rounded to its dtype, which is exact, and mean minus rounded mean."""
    rounded = ops.cast(mean, x.dtype)
    return x - _over_positions(rounded, x), mean - ops.cast(rounded, mean.dtype)


def sum_positions(x, dtype):
    """Sums x (B, ..., C) over the positions of each image: (B, C) of `dtype`, float32 or wider.

    Each row of positions is summed in the dtype of x, which rounds once; no wide copy of the feature map is made.
    """
    *columns, row = _position_axes(x) or [None]
    return ops.sum(ops.cast(x if row is None else ops.sum(x, axis=row), dtype), axis=tuple(columns))


def _position_axes(x):
    return tuple(range(1, len(x.shape) - 1))


def _over_positions(rows, x):
    """(B, C) as (B, 1, ..., C), of the dtype of x."""
    return ops.cast(ops.reshape(rows, (-1, *[1] * (len(x.shape) - 2), x.shape[-1])), x.dtype)


@operation
def multiply_column(matrix, column):
    """matrix (P, F) times column (F, 1): (P, 1)."""
    return ops.matmul(matrix, column)


@operation
def multiply_row(row, matrix):
    """row (1, P) times matrix (P, F): (1, F)."""
    return ops.matmul(row, matrix)


class Estimate(NamedTuple):
    """What power iterations find of a kernel W.

    Args:
        u: (F,), first left singular vector.
        v: (P,), first right singular vector.
        factor: (), 1 / sigma, or 1 where sigma is not above epsilon.
        factor_gradient: (), of the factor against sigma: -1 / sigma^2, or 0 where the factor is 1.
    """

    u: Any
    v: Any
    factor: Any
    factor_gradient: Any


def estimate_sigmas(matrices, vectors, iterations, epsilon):
    """Lists the `Estimate` of each kernel; arguments as in `power_iterations`."""
    us, vs, sigmas = power_iterations(matrices, vectors, iterations, epsilon)
    is_divided = sigmas > epsilon
    factors = ops.reciprocal(ops.where(is_divided, sigmas, 1.0))
    factor_gradients = ops.where(is_divided, -ops.square(factors), 0.0)
    return [Estimate(*parts) for parts in zip(us, vs, *(ops.unstack(x, len(us)) for x in (factors, factor_gradients)))]


@operation
def power_iterations(matrices, vectors, iterations, epsilon):
    """Follows the first singular vectors of kernels by power iterations.

    Args:
        matrices: List of W^T, (P, F), float32 or wider, all of one dtype.
        vectors: List of u (F,), where to start.
        iterations: int >= 1.
        epsilon: float, added to the norms that are divided by.

    Returns:
        (list of u (F,), list of v (P,), sigmas (N,)) with sigma = u^T W v.
    """
    us, vs, sigmas = zip(*(_iterate(matrix, u, iterations, epsilon) for matrix, u in zip(matrices, vectors)))
    return us, vs, ops.stack(sigmas)


def _iterate(matrix, u, iterations, epsilon):
    for _ in range(iterations):
        v = ops.reshape(multiply_column(matrix, ops.reshape(u, (-1, 1))), (-1,))
        v = v / (_norm(v) + epsilon)
        row = ops.reshape(multiply_row(ops.reshape(v, (1, -1)), matrix), (-1,))
        length = _norm(row)
        # A zero kernel must not wipe u out: it would stay zero for ever.
        u = ops.where(length > epsilon, row / (length + epsilon), u)
    return u, v, ops.square(length) / (length + epsilon)


def _norm(vector):
    return ops.sqrt(ops.sum(ops.square(vector)))


@operation
def divide_by_sigma(kernel, estimate, output_axes, dtype, compute_dtype):
    """W / sigma with the gradient of Miyato et al. 2018, equation 12, which flows through sigma too.

    Args:
        kernel: W, float32 or wider.
        estimate: `Estimate` of the kernel; constants for the gradient. One that is not divided is left as it is.
        output_axes: Axes of the kernel that u is over.
        dtype: Of the result.
        compute_dtype: Of the layer that uses the result. A kernel may return it in this dtype already.

    Returns:
        Tensor of the shape of the kernel.
    """
    u, v, factor, factor_gradient = estimate

    def outer_product(scale):
        return _outer_product(u, scale * v, kernel.shape, output_axes)

    # Their values are known. That they depend on W matters to second derivatives alone.
    @custom_gradient
    def factor_of(kernel):
        return factor, lambda upstream: outer_product(upstream * gradient_of(kernel))

    @custom_gradient
    def gradient_of(kernel):
        return factor_gradient, lambda upstream: outer_product(-2 * upstream * factor_of(kernel) * gradient_of(kernel))

    @custom_gradient
    def divide(kernel):
        def gradient(upstream):
            of_factor = ops.sum(upstream * kernel)
            return upstream * factor_of(kernel) + outer_product(of_factor * gradient_of(kernel))

        # A product is faster than a quotient on a CPU.
        return kernel * factor, gradient

    return ops.cast(divide(kernel), dtype)


def _outer_product(u, v, shape, output_axes):
    """u v^T as a kernel of this shape, u over its output axes and v over the others."""
    axes = [axis % len(shape) for axis in output_axes]
    of_u, of_v = ([n if (i in axes) == mine else 1 for i, n in enumerate(shape)] for mine in (True, False))
    return ops.reshape(v, of_v) * ops.reshape(u, of_u)


def move_negative_out_of_range(label, num_classes):
    """Labels with the negative ones moved out of range: a lookup of Keras takes -1 for the last class."""
    return ops.where(label < 0, num_classes, label)
