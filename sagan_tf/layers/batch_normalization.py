"""Batch normalization of the last axis."""

from typing import Any

import keras
from keras import ops

from sagan_tf.layers.functional import batch_normalize, normalize, update_moving_average
from sagan_tf.layers.keras_compat import child_layers


@keras.saving.register_keras_serializable(package="sagan_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` of the last axis, with the same weights and results, in half the passes.

    Keras' layer keeps several float32 copies of the feature map for its gradient. Here the gradient is written out, and
    only the feature map itself is kept, in its own dtype. Statistics and normalization are computed in float32 (on
    TensorFlow float64 for a float64 layer) under any dtype policy. `axis`, `renorm` and masks are not supported.

    Symbols: B batch, H, W height and width in px, C channels.

    Args: as `keras.layers.BatchNormalization`; `synchronized` takes the statistics over all replicas.

    Call arguments:
        inputs: Feature map, (B, H, W, C), or (B, ..., C).
        training: bool. True normalizes by the batch and updates the moving statistics.

    Returns:
        Feature map, (B, H, W, C).

    Raises:
        ValueError: `axis` is not the last one, `renorm` is set, `momentum` is not in [0, 1), `epsilon` is not above 0,
            or the inputs have a mask.

    Example:
        >>> tuple(BatchNormalization()(keras.ops.ones((2, 4, 4, 8))).shape)
        (2, 4, 4, 8)

    Source: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167.
    """

    def __init__(self, axis: int = -1, **kwargs: Any):
        super().__init__(axis=axis, **kwargs)
        if axis != -1 or getattr(self, "renorm", False):
            raise ValueError(
                "`BatchNormalization` normalizes the last axis, without `renorm`. "
                f"Received: {axis=}, renorm={getattr(self, 'renorm', False)}."
            )
        if not (0 <= self.momentum < 1 and self.epsilon > 0):
            raise ValueError(
                "`momentum` must be at least 0 and below 1, and `epsilon` above 0. "
                f"Received: momentum={self.momentum}, epsilon={self.epsilon}."
            )

    def call(self, inputs, training=None, mask=None):
        if mask is not None:
            raise ValueError("`BatchNormalization` does not support masks. Use `keras.layers.BatchNormalization`.")
        dtype, row = keras.backend.result_type(self.compute_dtype, "float32"), (1, inputs.shape[-1])
        scale = ops.reshape(ops.cast(self.gamma, dtype), row) if self.scale else ops.ones(row, dtype)
        offset = ops.reshape(ops.cast(self.beta, dtype), row) if self.center else ops.zeros(row, dtype)
        return self.normalize_by(ops.cast(inputs, self.compute_dtype), scale, offset, training)

    def normalize_by(self, x, scale, offset, training=None):
        """Normalizes a feature map, then scales and shifts it by given rows in place of the layer's own.

        Args:
            x: (B, ..., C), floating point.
            scale: (B, C) or (1, C), float32 or wider.
            offset: As `scale`.
            training: bool. True normalizes by the batch and updates the moving statistics, unless the layer is frozen.

        Returns:
            (B, ..., C), of the dtype of `x`.
        """
        if not (training and self.trainable):
            mean, variance = (ops.cast(v, scale.dtype) for v in (self.moving_mean, self.moving_variance))
            return normalize(x, mean, variance, scale, offset, self.epsilon)
        outputs, mean, variance = batch_normalize(x, scale, offset, self.epsilon, self.synchronized)
        update_moving_average(self.moving_mean, mean, 1 - self.momentum)
        update_moving_average(self.moving_variance, variance, 1 - self.momentum)
        return outputs


def batch_normalizations(layer):
    """Lists the batch normalization layers in a layer or model, those inside conditional ones included."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return [layer]
    return [norm for child in child_layers(layer) for norm in batch_normalizations(child)]
