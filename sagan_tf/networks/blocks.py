"""Residual blocks of generator and discriminator, and the layers they are wired from."""

from dataclasses import dataclass

import keras
from keras import ops

from sagan_tf.layers import (
    AveragePooling,
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


@dataclass(frozen=True)
class LayerStyle:
    """Makes the layers of one network alike.

    Args:
        spectral_normalization: Wrap convolutions, dense layers and embeddings.
        kernel_initializer: Keras name of an initialiser.
        dtype: Dtype policy, None for Keras' global one.
        num_classes: Classes of the conditional batch normalisation, None for plain batch normalisation.
        momentum: Decay of BN's moving statistics.
        epsilon: Added to BN's variance.
        attention_block: `self_attention` or `residual`.
        attention_options: Keyword arguments of `SelfAttention`.
    """

    spectral_normalization: bool = True
    kernel_initializer: str = "glorot_uniform"
    dtype: object = None
    num_classes: int | None = None
    momentum: float = 0.99
    epsilon: float = 1e-5
    attention_block: str = "self_attention"
    attention_options: dict | None = None

    def _normalized(self, layer, name):
        return SpectralNormalization(layer, name=name) if self.spectral_normalization else layer

    def convolution(self, filters, kernel_size, name, dtype=None, resampling=None):
        """A convolution of stride 1 that keeps the size, with a bias, unless `resampling` is `up` or `down`."""
        layer = Conv2D(
            filters,
            kernel_size,
            padding="same",
            kernel_initializer=self.kernel_initializer,
            data_format="channels_last",
            resampling=resampling,
            dtype=dtype or self.dtype,
            name=name,
        )
        return self._normalized(layer, name)

    def dense(self, units, name, dtype=None):
        """A dense layer with a bias."""
        layer = keras.layers.Dense(
            units, kernel_initializer=self.kernel_initializer, dtype=dtype or self.dtype, name=name
        )
        return self._normalized(layer, name)

    def embedding(self, num_classes, dimensions, name, dtype=None):
        """A vector a class."""
        layer = keras.layers.Embedding(
            num_classes, dimensions, self.kernel_initializer, dtype=dtype or self.dtype, name=name
        )
        return self._normalized(layer, name)

    def batch_normalization(self, name):
        """Plain batch normalisation over the global batch."""
        return BatchNormalization(
            momentum=self.momentum,
            epsilon=self.epsilon,
            synchronized=can_synchronize(),
            dtype=self.dtype,
            name=name,
        )

    def normalize(self, x, label, name):
        """Batch normalisation of `x`, by class where there are classes."""
        if self.num_classes is None:
            return self.batch_normalization(name)(x)
        layer = ConditionalBatchNormalization(
            self.num_classes, momentum=self.momentum, epsilon=self.epsilon, dtype=self.dtype, name=name
        )
        return layer([x, label])

    def relu(self, x, name):
        """ReLU that leaves `x` itself alone: a residual skip must not see it (several PyTorch ports mutate it)."""
        return ReLU(dtype=self.dtype, name=name)(x)

    def attention(self, x, name):
        """The block that looks far: self-attention, or its control of as many parameters."""
        if self.attention_block == "residual":
            return residual_control_block(self, x, name)
        options = dict(self.attention_options or {})
        wanted = options.pop("spectral_normalization", True)
        return SelfAttention(
            spectral_normalization=wanted and self.spectral_normalization,
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype,
            name=name,
            **options,
        )(x)


def upsampling_block(style, x, label, filters, name):
    """Residual block of the generator, doubling height and width.

    The 1x1 convolution of the skip stands before the up-sampling, where it costs a quarter; nearest-neighbour
    up-sampling copies pixels, so the result is the same.

    Args:
        style: `LayerStyle`.
        x: Feature map, (B, H, W, C).
        label: Labels (B,) or None.
        filters: Channels of the output.
        name: Prefix of the layers' names.

    Returns:
        Feature map, (B, 2H, 2W, filters).

    Source: brain-research/self-attention-gan, generator.py.
    """
    skip = NearestUpsampling()(style.convolution(filters, 1, f"{name}_skip")(x))
    x = style.relu(style.normalize(x, label, f"{name}_norm_1"), f"{name}_relu_1")
    x = style.convolution(filters, 3, f"{name}_conv_1", resampling="up")(_place_of_resampling(x))
    x = style.relu(style.normalize(x, label, f"{name}_norm_2"), f"{name}_relu_2")
    x = style.convolution(filters, 3, f"{name}_conv_2")(x)
    return ResidualSum(dtype=style.dtype, name=f"{name}_add")([x, skip])


def downsampling_block(style, x, filters, hidden, downsampling, first, name, activate_skip=False):
    """Residual block of the discriminator.

    The skip takes `x` as it came, not its ReLU, unless asked. Its average pooling stands before its 1x1 convolution,
    where that costs a quarter; both are linear and act on different axes, so the result is the same.

    Args:
        style: `LayerStyle`.
        x: Image or feature map, (B, H, W, C).
        filters: Channels of the output.
        hidden: Channels between the two 3x3 convolutions.
        downsampling: Halve height and width; otherwise the skip is the identity where `filters` is C.
        first: The block sees the image: no ReLU before its first convolution.
        name: Prefix of the layers' names.
        activate_skip: Let the skip take the ReLU of `x`, as ports do whose ReLU works in place.

    Returns:
        Feature map, (B, H/2, W/2, filters) or (B, H, W, filters).

    Source: brain-research/self-attention-gan, discriminator.py.
    """
    activated = x if first else style.relu(x, f"{name}_relu_1")
    x = activated if activate_skip else x
    skip = AveragePooling()(x) if downsampling else x
    if downsampling or x.shape[-1] != filters:
        skip = style.convolution(filters, 1, f"{name}_skip")(skip)
    x = style.convolution(hidden, 3, f"{name}_conv_1")(activated)
    x = style.relu(x, f"{name}_relu_2")
    x = style.convolution(filters, 3, f"{name}_conv_2", resampling="down" if downsampling else None)(x)
    x = _place_of_resampling(x) if downsampling else x
    return ResidualSum(dtype=style.dtype, name=f"{name}_add")([x, skip])


def residual_control_block(style, x, name):
    """A residual block with as many parameters as default self-attention, for the control of the paper's Table 1.

    The paper says only that the parameters are as many. Here: 1x1, 3x3, 1x1 convolutions without biases, each after a
    ReLU, C -> h -> h -> C with h = 5C/18, because 2Ch + 9h^2 is then 1.25 C^2, the count of the attention block.

    Args:
        style: `LayerStyle`.
        x: Feature map, (B, H, W, C).
        name: Prefix of the layers' names.

    Returns:
        Feature map, (B, H, W, C).
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
        y = style._normalized(layer, f"{name}_conv_{i}")(y)
    return ResidualSum(dtype=style.dtype, name=name)([x, y])


def _place_of_resampling(x):
    """A copy in name alone, where an operation once stood that is now the convolution's.

    TensorFlow's checkpoints name weights by their operation's place in the graph: those of earlier runs still load.
    """
    return ops.copy(x)
