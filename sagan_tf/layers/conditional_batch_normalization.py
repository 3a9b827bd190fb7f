"""Batch normalization with a scale and offset per class."""

from typing import Any

import keras
from keras import ops

from sagan_tf.errors import check_positive_int
from sagan_tf.layers import functional
from sagan_tf.layers.batch_normalization import BatchNormalization


@keras.saving.register_keras_serializable(package="sagan_tf")
class ConditionalBatchNormalization(keras.layers.Layer):
    """Normalizes each channel over the batch, then scales and shifts it by the gain and bias of the image's class.

        output = gamma[label] * (x - mean) / sqrt(variance + epsilon) + beta[label]

    The class tables start at gamma 1 and beta 0 and are not spectrally normalized: with a largest singular value of 1
    a table of 1000 classes could not move far from equal gains. Their gradients are dense, because Keras' Adam would
    square the gradients of a repeated label one by one instead of their sum. On TensorFlow the statistics are those of
    the global batch over all replicas (`tf.distribute`); on JAX `keras.distribution` sees to that.

    Symbols: B batch, H, W height and width in px, C channels.

    Args:
        num_classes: int >= 1. Labels are 0 to num_classes - 1.
        momentum: float in [0, 1). Decay of the moving statistics, which inference uses.
        epsilon: float > 0. Added to the variance.
        synchronized: bool or None. Take the statistics over all replicas. None: where the backend supports it.

    Call arguments:
        inputs: List of the feature map (B, H, W, C), or (B, ..., C), and the labels (B,) or (B, 1), integers.
        training: bool. True normalizes by the batch and updates the moving statistics.

    Returns:
        Feature map, (B, H, W, C).

    Raises:
        ValueError: `num_classes` below 1, `momentum` or `epsilon` is out of range, the inputs are not such a pair, or
            their batch sizes are known to differ.

    Example:
        >>> layer = ConditionalBatchNormalization(num_classes=10)
        >>> tuple(layer([keras.ops.ones((2, 4, 4, 8)), keras.ops.array([3, 7])]).shape)
        (2, 4, 4, 8)

    Source: Dumoulin et al. 2017, https://arxiv.org/abs/1610.07629; as in brain-research/self-attention-gan, ops.py.
    """

    def __init__(
        self,
        num_classes: int,
        momentum: float = 0.99,
        epsilon: float = 1e-5,
        synchronized: bool | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_classes = check_positive_int("num_classes", num_classes)
        self.momentum = momentum
        self.epsilon = epsilon
        self.synchronized = synchronized
        self.normalization = BatchNormalization(
            center=False,
            scale=False,
            momentum=momentum,
            epsilon=epsilon,
            synchronized=can_synchronize() if synchronized is None else synchronized,
            dtype=self.dtype_policy,
            name="normalization",
        )

    def build(self, input_shape):
        shape = self._check_shape(input_shape)
        self.normalization.build(shape)
        self.gamma = self._add_table("gamma", "ones", shape[-1])
        self.beta = self._add_table("beta", "zeros", shape[-1])
        self.built = True

    @staticmethod
    def _check_shape(input_shape):
        if len(input_shape) != 2 or not isinstance(input_shape[0], (tuple, list)) or len(input_shape[0]) < 2:
            raise ValueError(
                "`ConditionalBatchNormalization` takes a list of a feature map and its labels. "
                f"Received: {input_shape=}."
            )
        maps, labels = input_shape
        if not labels or any(size not in (None, 1) for size in labels[1:]):
            raise ValueError(
                "Labels must be integers, one for each feature map: `ops.argmax(one_hot, axis=-1)` of one-hot labels. "
                f"Received: {input_shape=}."
            )
        if None not in (maps[0], labels[0]) and maps[0] != labels[0]:
            raise ValueError(f"Each feature map needs one label. Received: {maps[0]} feature maps, {labels[0]} labels.")
        return tuple(maps)

    def _add_table(self, name, initializer, channels):
        # In float32 under mixed policies too, as in Keras' layer.
        shape = (self.num_classes, channels)
        return self.add_weight(name=name, shape=shape, initializer=initializer, autocast=False)

    def call(self, inputs, training=None):
        feature_map, label = inputs
        if all(getattr(each.shape, "rank", 0) is not None for each in inputs):  # of TensorFlow
            self._check_shape([tuple(each.shape) for each in inputs])
        if not keras.backend.is_int_dtype(label.dtype):
            raise ValueError(f"Labels must be integers. Received: {keras.backend.standardize_dtype(label.dtype)}.")
        if keras.backend.standardize_dtype(label.dtype) not in ("int32", "int64"):  # TensorFlow looks up no others
            label = ops.cast(label, "int32")
        label = functional.move_negative_out_of_range(ops.reshape(label, (-1,)), self.num_classes)
        feature_map = ops.cast(feature_map, self.compute_dtype)  # integers, too
        dtype = keras.backend.result_type(feature_map.dtype, "float32")
        # Rows of both tables at once; and of a new tensor, so that the optimizer gets dense gradients of the tables.
        tables = ops.stack([ops.cast(table, dtype) for table in (self.gamma, self.beta)], axis=1)  # (K, 2, C)
        scale, offset = ops.unstack(ops.take(tables, label, axis=0), 2, axis=1)  # (B, C)
        return self.normalization.normalize_by(feature_map, scale, offset, training)

    def compute_output_shape(self, input_shape):
        return self._check_shape(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "synchronized": self.synchronized,
        }


def can_synchronize():
    """Whether Keras' `BatchNormalization` takes `synchronized=True` on the current backend."""
    return keras.backend.backend() == "tensorflow"
