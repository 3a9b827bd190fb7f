"""The discriminator: image and label to a logit, by projection."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from sagan_tf.layers.functional import move_negative_out_of_range
from sagan_tf.networks.architectures import discriminator_attention_channels
from sagan_tf.networks.blocks import LayerStyle, downsampling_block
from sagan_tf.networks.validation import check_image_size, check_network


def build_discriminator(
    image_size: int | tuple[int, int] = 128,
    channels: int = 64,
    num_classes: int | None = 1000,
    attention_sizes: Sequence[int] = (32,),
    *,
    image_channels: int = 3,
    attention_block: str = "self_attention",
    attention_options: dict[str, Any] | None = None,
    spectral_normalization: bool = True,
    hidden_channels: str = "output",
    activate_skip: bool = False,
    kernel_initializer: str = "glorot_uniform",
    dtype: str | keras.DTypePolicy | None = None,
    name: str = "discriminator",
) -> keras.Model:
    """Builds the SAGAN discriminator, a projection discriminator, as a functional Keras model.

    Residual blocks halve the image down to about 4x4 (8x8 at 32 px). With h the last map after ReLU, summed over
    positions,

        logit = w . h + b + embedding[label] . h

    Symbols: B batch, H, W height and width of an image in px, K num_classes.

    Args:
        image_size: (H, W), or an int for square images, see `build_generator`.
        channels: int >= 1. Base width; `architectures.py` has its multiples.
        num_classes: int >= 1, or None for a discriminator without labels (the last term is left out).
        attention_sizes: Sizes in px of the feature maps that get attention, of their smaller side; empty for none.
        image_channels: int >= 1.
        attention_block: `self_attention`, or `residual` for the paper's control (Table 1).
        attention_options: dict, keyword arguments of `SelfAttention`, except `name`.
        spectral_normalization: bool.
        hidden_channels: Width inside a block: that of its `output` (SAGAN) or of its `input` (SNGAN-projection, the
            paper's Table 2); in the first block that of its output in both cases.
        activate_skip: The skip of a block takes the ReLU of its input, as in PyTorch-StudioGAN and mimicry; in the
            authors' code it takes the input.
        kernel_initializer: Keras name of an initializer.
        dtype: Dtype policy of the layers. None: the global one of Keras.
        name: Name of the model.

    Returns:
        keras.Model: [image (B, H, W, image_channels) in [-1, 1], label (B,) int32 in 0..K-1] -> logit (B, 1) float32,
        > 0 for real; without classes the image alone.

    Raises:
        ValueError: An argument is out of range, or the network has no feature map of an attention size.

    Source: Miyato and Koyama 2018, equation 3, https://arxiv.org/abs/1802.05637; brain-research/self-attention-gan,
        discriminator.py.
    """
    image_size, architecture = check_image_size(image_size)
    sizes = check_network(
        image_size,
        channels,
        num_classes,
        image_channels,
        attention_sizes,
        attention_block,
        discriminator_attention_channels,
    )
    if hidden_channels not in ("output", "input"):
        raise ValueError(f"`hidden_channels` must be 'output' or 'input'. Received: {hidden_channels=}.")
    style = LayerStyle(
        spectral_normalization=spectral_normalization,
        kernel_initializer=kernel_initializer,
        dtype=dtype,
        attention_block=attention_block,
        attention_options=attention_options,
    )
    image = keras.Input((*image_size, image_channels), name="image")
    label = None if num_classes is None else keras.Input((), dtype="int32", name="label")

    x, size = image, min(image_size)
    blocks = zip(architecture.discriminator, architecture.downsampling)
    for i, (multiplier, downsampling) in enumerate(blocks, start=1):
        filters = multiplier * channels
        hidden = x.shape[-1] if hidden_channels == "input" and i > 1 else filters
        x = downsampling_block(style, x, filters, hidden, downsampling, i == 1, f"block_{i}", activate_skip)
        size = size // 2 if downsampling else size
        if size in sizes:
            x = style.attention(x, f"attention_{size}")
            sizes = sizes - {size}

    x = ops.cast(style.relu(x, "output_relu"), "float32")
    features = ops.sum(x, axis=(1, 2))  # (B, channels of the last block)
    logit = style.dense(1, "output_dense", dtype="float32")(features)
    if label is not None:
        embedding = style.embedding(num_classes, features.shape[-1], "embedding", dtype="float32")
        embedding = embedding(move_negative_out_of_range(label, num_classes))
        logit = logit + ops.sum(embedding * features, axis=-1, keepdims=True)
    logit = keras.layers.Identity(dtype="float32", name="logit")(logit)
    return keras.Model(image if label is None else [image, label], logit, name=name)
