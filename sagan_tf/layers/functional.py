"""Reference operations of the layers, in keras.ops; those marked `operation` can be replaced by faster kernels."""

import math

import keras
from keras import ops

from sagan_tf.accelerate.registry import operation
from sagan_tf.layers.keras_compat import custom_gradient


@operation
def relu(x):
    """max(x, 0)."""
    return ops.relu(x)


def add_maps(x, y):
    """x + y, for two feature maps (B, H, W, C) of the same shape."""
    # TensorFlow 2.21's graph optimizer (remapper) fails on a sum that follows a convolution and is read more than
    # once, and then gives up the whole graph. It does not recognize the same sum over flattened positions.
    _, height, width, channels = x.shape
    positions = [ops.reshape(part, (-1, height * width, channels)) for part in (x, y)]
    return ops.reshape(ops.add(*positions), (-1, height, width, channels))


@operation
def add_bias(x, bias):
    """x (B, H, W, C) + bias (C,)."""
    return ops.add(x, ops.reshape(bias, (*[1] * (len(x.shape) - 1), x.shape[-1])))


def average_pool(x):
    """Halves height and width of (B, H, W, C) by the mean of 2x2 pixels."""
    return ops.average_pool(x, 2, 2, data_format="channels_last")


def upsample(x):
    """Doubles height and width of (B, H, W, C) by copying each pixel to four."""
    size = (2 * x.shape[1], 2 * x.shape[2])
    return ops.image.resize(x, size, interpolation="nearest", data_format="channels_last")


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


def normalize(x, mean, variance, scale, offset, epsilon):
    """(x - mean) / sqrt(variance + epsilon) * scale + offset, with the shapes of `batch_normalize`."""
    rows = (ops.shape(x)[0], x.shape[-1])
    parts = (mean, scale * ops.rsqrt(variance + epsilon), offset)
    return centre_and_scale(x, *(ops.broadcast_to(part, rows) for part in parts))


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
        centred, excess = _centre(x, mean)
        coefficient = 2 * of_variance
        return centred * _over_positions(coefficient, x) + _over_positions(of_mean - excess * coefficient, x)

    return ops.concatenate([mean, variance], axis=-1), gradient


@custom_gradient
def centre_and_scale(x, mean, scale, offset):
    """(x - mean) * scale + offset for x (B, ..., C) and rows (B, C) in float32 or wider, computed in their dtype.

    The gradient of x, and the products that are summed for the others, are computed in the dtype of x, so that no wide
    copy of the feature map is kept.
    """

    def gradient(upstream):
        centred, excess = _centre(x, mean)
        products, total = (sum_positions(part, scale.dtype) for part in (upstream * centred, upstream))
        return upstream * _over_positions(scale, x), -scale * total, products - excess * total, total

    wide = ops.cast(x, scale.dtype)
    scaled = wide * _over_positions(scale, wide) + _over_positions(offset - mean * scale, wide)
    return ops.cast(scaled, x.dtype), gradient


def _centre(x, mean):
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
def multiply_vector(matrix, vector):
    """matrix (P, F) times vector (F,): (P,)."""
    return ops.matmul(matrix, vector)


@operation
def multiply_row(vector, matrix):
    """vector (P,) times matrix (P, F): (F,)."""
    return ops.matmul(vector, matrix)


@operation
def power_iteration(matrix, u, iterations, epsilon):
    """Follows the first singular vectors of W by power iterations.

    Args:
        matrix: W^T, (P, F), float32 or wider.
        u: (F,), where to start.
        iterations: int >= 1.
        epsilon: float, added to the norms that are divided by.

    Returns:
        (u (F,), v (P,), sigma ()) with sigma = u^T W v.
    """

    def unit(x):
        return x / (ops.norm(x) + epsilon)

    for _ in range(iterations):
        v = unit(multiply_vector(matrix, u))
        product = multiply_row(v, matrix)
        # A zero kernel must not wipe u out: it would stay zero for ever.
        u = ops.where(ops.norm(product) > epsilon, unit(product), u)
    return u, v, ops.sum(u * product)


@operation
def divide_by_sigma(matrix, u, v, sigma, epsilon, dtype, compute_dtype):
    """W / sigma with the gradient of Miyato et al. 2018, equation 12, which flows through sigma too.

    Written out, it passes over the kernel half as often as the derived gradient.

    Args:
        matrix: W^T, (P, F), float32 or wider.
        u, v, sigma: Of `power_iteration`; constants for the gradient.
        epsilon: float. A kernel whose sigma is not above it is left as it is.
        dtype: Of the result.
        compute_dtype: Of the layer that uses the result. A kernel may return it in this dtype already.

    Returns:
        (P, F).
    """

    @custom_gradient
    def sigma_of(matrix):
        # Its value is known. That it depends on W matters to second derivatives alone.
        return sigma, lambda upstream: _outer(v, u) * upstream

    @custom_gradient
    def divide(matrix):
        def gradient(upstream):
            current = sigma_of(matrix)
            divisor = safe_sigma(current, epsilon)
            is_divided = ops.cast(current > epsilon, current.dtype)
            column = v * (is_divided * ops.sum(upstream * matrix) / (divisor * divisor))
            return upstream * (1 / divisor) - _outer(column, u)

        # A product with a factor is faster than a quotient on a CPU.
        return matrix * (1 / safe_sigma(sigma, epsilon)), gradient

    return ops.cast(divide(matrix), dtype)


def refuse_negative(label, num_classes):
    """Labels with the negative ones moved out of range: a lookup of Keras takes -1 for the last class."""
    return ops.where(label < 0, num_classes, label)


def safe_sigma(sigma, epsilon):
    """sigma, or 1 where it is not above `epsilon`."""
    return ops.where(sigma > epsilon, sigma, ops.ones_like(sigma))


def _outer(column, row):
    # As a product of matrices: half the time of a broadcast product on a CPU.
    return ops.matmul(column[:, None], row[None, :])
