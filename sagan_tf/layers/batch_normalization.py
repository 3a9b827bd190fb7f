"""Batch normalisation in few passes over a feature map; knows nothing of GANs."""

import math

import keras
from keras import ops

from sagan_tf.accelerate.registry import lent
from sagan_tf.layers.sums import sum_positions


@keras.saving.register_keras_serializable(package="sagan_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the last axis: the same weights and numbers, from half the passes.

    Keras' layer keeps several float32 copies of the feature map for its gradient and goes over it some thirty times;
    here the gradients are written out, and the feature map is kept once, in its own dtype. Statistics and the
    normalisation itself are in float32 (float64 for a float64 layer) under any policy; the gradient is in the feature
    map's dtype, with sums in float32. `axis`, `renorm` and masks are not supported.

    Symbols: B batch, H, W height and width in px, C channels.

    Args: as `keras.layers.BatchNormalization`; `synchronized` makes the statistics those of all replicas.
    Call arguments:
        inputs: Feature map, (B, H, W, C), or (B, ..., C).
        training: bool. True normalises by the batch and moves the moving statistics.
    Returns:
        Feature map, (B, H, W, C).
    Raises:
        ValueError: `axis` is not the last one, or `renorm` is asked for.
    Example:
        >>> tuple(BatchNormalization()(keras.ops.ones((2, 4, 4, 8))).shape)
        (2, 4, 4, 8)
    Source: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167.
    """

    def __init__(self, axis=-1, **kwargs):
        super().__init__(axis=axis, **kwargs)
        if axis != -1 or getattr(self, "renorm", False):
            raise ValueError(
                "`BatchNormalization` normalises the last axis, without `renorm`. "
                f"Received: {axis=}, renorm={getattr(self, 'renorm', False)}."
            )

    def call(self, inputs, training=None):
        found = self.normalized_at_once(inputs, training)
        if found is not None:
            return found
        mean, variance = self.statistics(inputs, training)
        scale = ops.rsqrt(variance + self.epsilon)
        if self.scale:
            scale = scale * ops.cast(self.gamma, scale.dtype)
        offset = -mean * scale
        if self.center:
            offset = offset + ops.cast(self.beta, scale.dtype)
        rows = ops.shape(inputs)[0]
        scale, offset = (ops.broadcast_to(x[None], (rows, inputs.shape[-1])) for x in (scale, offset))
        return scale_and_shift(ops.cast(inputs, self.compute_dtype), scale, offset)

    def statistics(self, inputs, training=None):
        """Gives what to normalise by; in a training call of a trainable layer that of the batch, which is kept too.

        Args:
            inputs: (B, ..., C).
            training: bool.

        Returns:
            (mean (C,), variance (C,)), float32 or wider.
        """
        if not (training and self.trainable):
            dtype = keras.backend.result_type(inputs.dtype, "float32")
            return [ops.cast(x, dtype) for x in (self.moving_mean, self.moving_variance)]
        channels = inputs.shape[-1]
        # Over the positions of each image first, by ourselves; over images and replicas by Keras, which knows how.
        means, _ = ops.moments(_means(inputs), axes=[0], synchronized=self.synchronized)
        mean, square = means[:channels], means[channels:]
        found = mean, ops.maximum(square - ops.square(mean), 0)
        self._move(*found)
        return found

    def normalized_at_once(self, inputs, training=None, scale=None, offset=None):
        """Gives what a training call of a trainable layer returns, by the operation that is lent, if one is and fits.

        Args:
            inputs: (B, ..., C).
            training: bool.
            scale, offset: (B, C) float32, in place of the layer's own.

        Returns:
            (B, ..., C), or None; then nothing has moved.
        """
        if not (training and self.trainable):
            return None
        if scale is None:
            row = (1, inputs.shape[-1])
            scale = ops.reshape(ops.cast(self.gamma, "float32"), row) if self.scale else ops.ones(row)
            offset = ops.reshape(ops.cast(self.beta, "float32"), row) if self.center else ops.zeros(row)
        found = lent("normalize", ops.cast(inputs, self.compute_dtype), scale, offset, self.epsilon)
        if found is None:
            return None
        outputs, mean, variance = found
        self._move(mean, variance)
        return outputs

    def _move(self, mean, variance):
        for variable, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            variable.assign(ops.cast(variable, new.dtype) * self.momentum + new * (1 - self.momentum))


@ops.custom_gradient
def _means(x):
    """Means over an image's positions of x (B, ..., C) and of its square: (B, 2C), float32 or wider."""
    dtype, channels, axes = keras.backend.result_type(x.dtype, "float32"), x.shape[-1], _positions(x)
    count = ops.cast(math.prod(ops.shape(x)[axis] for axis in axes), dtype)

    def gradient(*arguments, upstream=None):
        upstream = arguments[0] if upstream is None else upstream  # by name on PyTorch alone
        slope = x * _over_positions(upstream[:, channels:] * 2 / count, x)
        return slope + _over_positions(upstream[:, :channels] / count, x)

    exact = ops.cast(x, dtype)
    parts = [ops.mean(exact, axis=axes), ops.mean(ops.square(exact), axis=axes)]
    return ops.concatenate(parts, axis=-1), gradient


@ops.custom_gradient
def scale_and_shift(x, scale, offset):
    """Scales and shifts an image's channels: x * scale + offset, computed in the dtype of `scale`.

    The gradient of `x` is computed in its own dtype, and so are the products whose sums, in that of `scale`, are the
    gradients of the others: a wider copy of the feature map would have to be kept for it. Sums over a row of positions
    are rounded to the dtype of `x`, as their summands are.

    Args:
        x: (B, ..., C).
        scale, offset: (B, C), float32 or wider.

    Returns:
        (B, ..., C), of the dtype of `x`.
    """

    def gradient(*arguments, upstream=None):
        upstream = arguments[0] if upstream is None else upstream
        slopes = (sum_positions(part, scale.dtype) for part in (upstream * x, upstream))
        return upstream * _over_positions(scale, x), *slopes

    exact = ops.cast(x, scale.dtype)
    scaled = exact * _over_positions(scale, exact) + _over_positions(offset, exact)
    return ops.cast(scaled, x.dtype), gradient


def _positions(x):
    return tuple(range(1, len(x.shape) - 1))


def _over_positions(rows, x):
    """(B, C) as (B, 1, ..., C), of the dtype of x."""
    return ops.cast(ops.reshape(rows, (-1, *[1] * (len(x.shape) - 2), x.shape[-1])), x.dtype)
