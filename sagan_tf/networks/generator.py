"""The generator: latent and label to image."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from sagan_tf.errors import check_positive_int
from sagan_tf.networks.architectures import generator_attention_channels
from sagan_tf.networks.blocks import LayerStyle, upsampling_block
from sagan_tf.networks.validation import check_image_size, check_network


def build_generator(
    image_size: int | tuple[int, int] = 128,
    channels: int = 64,
    num_classes: int | None = 1000,
    latent_dim: int = 128,
    attention_sizes: Sequence[int] = (32,),
    *,
    image_channels: int = 3,
    initial_channels: int | None = None,
    attention_block: str = "self_attention",
    attention_options: dict[str, Any] | None = None,
    spectral_normalization: bool = True,
    batch_normalization_momentum: float = 0.99,
    batch_normalization_epsilon: float = 1e-5,
    batch_statistics: str = "global",
    kernel_initializer: str = "glorot_uniform",
    dtype: str | keras.DTypePolicy | None = None,
    name: str = "generator",
) -> keras.Model:
    """Builds the SAGAN generator as a functional Keras model.

    A dense layer makes a map of about 4x4, which residual blocks double up to the image. Batch normalization is
    conditional on the class, except the last one. Attention follows the block that makes a map of its size. The tanh is
    computed in float32 under any policy.

    Symbols: B batch, D latent_dim, H, W height and width of an image in px, K num_classes.

    Args:
        image_size: (H, W), or an int for square images. The smaller side is 3 to 7 times 8, 16, 32 or 64 px, and the
            larger side a multiple of the same number, such as 32, 64, 96, 128, 256 or (64, 96).
        channels: int >= 1. Base width; `architectures.py` has its multiples.
        num_classes: int >= 1, or None for a generator without labels.
        latent_dim: int >= 1.
        attention_sizes: Sizes in px of the feature maps that get attention, of their smaller side; empty for none.
        image_channels: int >= 1.
        initial_channels: int >= 1, channels of the first map. None: by image size, as in `architectures.py`.
        attention_block: `self_attention`, or `residual` for the paper's control (Table 1).
        attention_options: dict, keyword arguments of `SelfAttention`, except `name`.
        spectral_normalization: bool.
        batch_normalization_momentum: float in [0, 1).
        batch_normalization_epsilon: float > 0.
        batch_statistics: Under a TensorFlow strategy with several replicas, `global`: of all images of a batch; or
            `local`: of each replica's own, as in the authors' code. Weights and inference are the same.
        kernel_initializer: Keras name of an initializer.
        dtype: Dtype policy of the layers. None: the global one of Keras.
        name: Name of the model.

    Returns:
        keras.Model: [latent (B, D) ~ N(0, 1), label (B,) int32 in 0..K-1] -> image (B, H, W, image_channels) float32
        in [-1, 1]; without classes the latent alone.

    Raises:
        ValueError: An argument is out of range, or the network has no feature map of an attention size.

    Source: Zhang et al. 2019, https://arxiv.org/abs/1805.08318; brain-research/self-attention-gan, generator.py.
    """
    image_size, architecture = check_image_size(image_size)
    sizes = check_network(
        image_size,
        channels,
        num_classes,
        image_channels,
        attention_sizes,
        attention_block,
        generator_attention_channels,
    )
    check_positive_int("latent_dim", latent_dim)
    if initial_channels is not None:
        check_positive_int("initial_channels", initial_channels)
    if batch_statistics not in ("global", "local"):
        raise ValueError(f"`batch_statistics` must be 'global' or 'local'. Received: {batch_statistics=}.")
    style = LayerStyle(
        spectral_normalization=spectral_normalization,
        kernel_initializer=kernel_initializer,
        dtype=dtype,
        num_classes=num_classes,
        momentum=batch_normalization_momentum,
        epsilon=batch_normalization_epsilon,
        synchronized=batch_statistics == "global",
        attention_block=attention_block,
        attention_options=attention_options,
    )
    latent = keras.Input((latent_dim,), name="latent")
    label = None if num_classes is None else keras.Input((), dtype="int32", name="label")

    first, *multipliers = architecture.generator
    initial_map = (*architecture.initial_shape, initial_channels or first * channels)
    x = style.dense(math.prod(initial_map), "dense")(latent)
    x = keras.layers.Reshape(initial_map, dtype=dtype, name="reshape")(x)
    size = min(architecture.initial_shape)
    if size in sizes:
        x = style.attention(x, f"attention_{size}")
    for multiplier in multipliers:
        size *= 2
        x = upsampling_block(style, x, label, multiplier * channels, f"block_{size}")
        if size in sizes:
            x = style.attention(x, f"attention_{size}")

    x = style.relu(style.batch_normalization("output_norm")(x), "output_relu")
    # In the dtype of the policy, at a third of the time: in bfloat16 an image is off by some tenths of a gray level.
    x = style.convolution(image_channels, 3, "output_conv")(x)
    image = keras.layers.Activation("tanh", dtype="float32", name="image")(x)
    return keras.Model(latent if label is None else [latent, label], image, name=name)
