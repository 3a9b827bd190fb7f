"""Residual blocks of the generator and the discriminator, and the layers that they are built from."""

from dataclasses import dataclass

import keras

from sagan_tf.layers import (
    BatchNormalization,
    ConditionalBatchNormalization,
    Conv2D,
    NearestUpsampling,
    ReLU,
    ResidualSum,
    SelfAttention,
    SpectralNormalization,
)
from sagan_tf.layers.conditional_batch_normalization import can_synchronize
from sagan_tf.layers.functional import average_pool


@dataclass(frozen=True)
class LayerStyle:
    """Makes the layers of one network with the same options.

    Args:
        spectral_normalization: Wrap convolutions, dense layers and embeddings.
        kernel_initializer: Keras name of an initializer.
        dtype: Dtype policy. None: the global one of Keras.
        num_classes: Classes of the conditional batch normalization. None: plain batch normalization.
        momentum: Decay of the moving statistics of batch normalization.
        epsilon: Added to the variance in batch normalization.
        synchronized: Batch statistics over all replicas, where the backend supports it.
        attention_block: `self_attention` or `residual`.
        attention_options: Keyword arguments of `SelfAttention`, except `name`.
    """

    spectral_normalization: bool = True
    kernel_initializer: str = "glorot_uniform"
    dtype: object = None
    num_classes: int | None = None
    momentum: float = 0.99
    epsilon: float = 1e-5
    synchronized: bool = True
    attention_block: str = "self_attention"
    attention_options: dict | None = None

    def normalized(self, layer, name):
        """The layer with spectral normalization, if this network has it."""
        return SpectralNormalization(layer, name=name) if self.spectral_normalization else layer

    def convolution(self, filters, kernel_size, name, resampling=None):
        """A convolution with stride 1 and a bias that keeps the size, or resamples: `up` or `down`."""
        layer = Conv2D(
            filters,
            kernel_size,
            padding="same",
            kernel_initializer=self.kernel_initializer,
            data_format="channels_last",
            resampling=resampling,
            dtype=self.dtype,
            name=name,
        )
        return self.normalized(layer, name)

    def dense(self, units, name, dtype=None):
        """A dense layer with a bias."""
        layer = keras.layers.Dense(
            units, kernel_initializer=self.kernel_initializer, dtype=dtype or self.dtype, name=name
        )
        return self.normalized(layer, name)

    def embedding(self, num_classes, dimensions, name, dtype=None):
        """One vector per class."""
        layer = keras.layers.Embedding(
            num_classes, dimensions, self.kernel_initializer, dtype=dtype or self.dtype, name=name
        )
        return self.normalized(layer, name)

    def batch_normalization(self, name):
        """Plain batch normalization."""
        return BatchNormalization(
            momentum=self.momentum,
            epsilon=self.epsilon,
            synchronized=self.synchronized and can_synchronize(),
            dtype=self.dtype,
            name=name,
        )

    def normalize(self, x, label, name):
        """Batch normalization of `x`, conditional where there are classes."""
        if self.num_classes is None:
            return self.batch_normalization(name)(x)
        layer = ConditionalBatchNormalization(
            self.num_classes,
            momentum=self.momentum,
            epsilon=self.epsilon,
            synchronized=None if self.synchronized else False,
            dtype=self.dtype,
            name=name,
        )
        return layer([x, label])

    def relu(self, x, name):
        """ReLU. It is not in place: the skip of a residual block sees `x` (in several PyTorch ports it does not)."""
        return ReLU(dtype=self.dtype, name=name)(x)

    def attention(self, x, name):
        """Self-attention, or the residual block of as many parameters that the paper compares it with."""
        if self.attention_block == "residual":
            return residual_control_block(self, x, name)
        options = dict(self.attention_options or {})
        normalizes = options.pop("spectral_normalization", True)
        defaults = {"kernel_initializer": self.kernel_initializer, "dtype": self.dtype}
        return SelfAttention(
            **(defaults | options),
            spectral_normalization=normalizes and self.spectral_normalization,
            name=name,
        )(x)


def upsampling_block(style, x, label, filters, name):
    """Adds a residual block of the generator.

    The 1x1 convolution of the skip comes before its upsampling, where it costs a quarter; nearest-neighbor upsampling
    copies pixels, so the result is the same.

    Args:
        style: `LayerStyle`.
        x: Feature map, (B, H, W, C).
        label: (B,) int32; None without classes.
        filters: int >= 1, channels of the result.
        name: str, start of the names of the layers.

    Returns:
        Feature map, (B, 2H, 2W, filters).

    Source: brain-research/self-attention-gan, generator.py.
    """
    skip = style.convolution(filters, 1, f"{name}_skip")(x)
    skip = NearestUpsampling(dtype=style.dtype, name=f"{name}_upsample")(skip)
    x = style.relu(style.normalize(x, label, f"{name}_norm_1"), f"{name}_relu_1")
    x = style.convolution(filters, 3, f"{name}_conv_1", resampling="up")(x)
    x = style.relu(style.normalize(x, label, f"{name}_norm_2"), f"{name}_relu_2")
    x = style.convolution(filters, 3, f"{name}_conv_2")(x)
    return ResidualSum(dtype=style.dtype, name=f"{name}_add")([x, skip])


def downsampling_block(style, x, filters, hidden, downsampling, first, name, activate_skip=False):
    """Adds a residual block of the discriminator.

    The average pooling of the skip comes before its 1x1 convolution, which then costs a quarter; both are linear and
    act on different axes, so the result is the same.

    Args:
        style: `LayerStyle`.
        x: Image or feature map, (B, H, W, C).
        filters: int >= 1, channels of the result.
        hidden: int >= 1, channels between its 3x3 convolutions.
        downsampling: bool. Halve height and width.
        first: bool. Whether `x` is the image; its block has no ReLU before its first convolution.
        name: str, start of the names of the layers.
        activate_skip: bool. The skip takes the ReLU of `x`, as in ports whose ReLU is in place.

    Returns:
        Feature map, (B, H/2, W/2, filters), or (B, H, W, filters) without `downsampling`.

    Source: brain-research/self-attention-gan, discriminator.py.
    """
    activated = x if first else style.relu(x, f"{name}_relu_1")
    x = activated if activate_skip else x
    skip = average_pool(x) if downsampling else x
    if downsampling or x.shape[-1] != filters:
        skip = style.convolution(filters, 1, f"{name}_skip")(skip)
    x = style.convolution(hidden, 3, f"{name}_conv_1")(activated)
    x = style.relu(x, f"{name}_relu_2")
    x = style.convolution(filters, 3, f"{name}_conv_2", resampling="down" if downsampling else None)(x)
    return ResidualSum(dtype=style.dtype, name=f"{name}_add")([x, skip])


def residual_control_block(style, x, name):
    """Residual block with as many parameters as default self-attention, the control of the paper's Table 1.

    The paper gives no more than the parameter count. Here: 1x1, 3x3, 1x1 convolutions without biases, each after a
    ReLU, C -> h -> h -> C with h = 5C/18, because 2Ch + 9h^2 is then 1.25 C^2, the count of the attention block.
    """
    channels = x.shape[-1]
    hidden = max(round(channels * 5 / 18), 1)
    y = x
    for i, (filters, size) in enumerate(((hidden, 1), (hidden, 3), (channels, 1)), start=1):
        y = style.relu(y, f"{name}_relu_{i}")
        layer = Conv2D(
            filters,
            size,
            padding="same",
            use_bias=False,
            kernel_initializer=style.kernel_initializer,
            data_format="channels_last",
            dtype=style.dtype,
            name=f"{name}_conv_{i}",
        )
        y = style.normalized(layer, f"{name}_conv_{i}")(y)
    return ResidualSum(dtype=style.dtype, name=name)([x, y])
