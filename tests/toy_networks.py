"""Networks with one layer of each kind: they trace and train three times as fast as the smallest of the builders."""

import math

import keras
import pytest
from keras import ops

from sagan_tf.experiment import build
from sagan_tf.layers import NearestUpsampling, ResidualSum
from sagan_tf.layers.functional import average_pool
from sagan_tf.networks.blocks import LayerStyle
from sagan_tf.networks.validation import check_image_size


def toy_generator(
    image_size=32, channels=8, num_classes=3, latent_dim=128, attention_sizes=(16,), *, image_channels=3,
    attention_options=None, spectral_normalization=True, dtype=None, **_,
):  # fmt: skip
    """As `build_generator`, with upsampling instead of residual blocks but a short last one."""
    options = dict(spectral_normalization=spectral_normalization, attention_options=attention_options)
    style = LayerStyle(dtype=dtype, num_classes=num_classes, **options)
    image_size, architecture = check_image_size(image_size)
    first, size = architecture.initial_shape, min(architecture.initial_shape)
    latent = keras.Input((latent_dim,), name="latent")
    label = None if num_classes is None else keras.Input((), dtype="int32", name="label")
    x = style.dense(math.prod(first) * channels, "dense")(latent)
    x = keras.layers.Reshape((*first, channels), dtype=dtype, name="reshape")(x)
    while size < min(image_size) // 2:
        size *= 2
        x = NearestUpsampling(dtype=dtype, name=f"upsample_{size}")(x)
        if size in attention_sizes:
            x = style.attention(x, f"attention_{size}")
    skip = NearestUpsampling(dtype=dtype, name="skip")(x)
    x = style.relu(style.normalize(x, label, "block_32_norm"), "relu")
    x = ResidualSum(dtype=dtype, name="add")(
        [style.convolution(channels, 3, "block_32_conv", resampling="up")(x), skip]
    )
    x = style.relu(style.batch_normalization("output_norm")(x), "output_relu")
    x = style.convolution(image_channels, 3, "output_conv")(x)
    image = keras.layers.Activation("tanh", dtype="float32", name="image")(x)
    return keras.Model(latent if label is None else [latent, label], image, name="generator")


def toy_discriminator(
    image_size=32, channels=8, num_classes=3, attention_sizes=(16,), *, image_channels=3, attention_options=None,
    spectral_normalization=True, dtype=None, **_,
):  # fmt: skip
    """As `build_discriminator`, with one convolution, and pooling instead of further residual blocks."""
    options = dict(spectral_normalization=spectral_normalization, attention_options=attention_options)
    style = LayerStyle(dtype=dtype, **options)
    image_size, _ = check_image_size(image_size)
    image, size = keras.Input((*image_size, image_channels), name="image"), min(image_size) // 2
    label = None if num_classes is None else keras.Input((), dtype="int32", name="label")
    x = style.convolution(channels, 3, "block_1_conv", resampling="down")(image)
    while size >= min(attention_sizes, default=min(image_size) // 2):
        x = style.attention(x, f"attention_{size}") if size in attention_sizes else x
        x, size = average_pool(x), size // 2
    features = ops.sum(ops.cast(style.relu(x, "output_relu"), "float32"), axis=(1, 2))
    logit = style.dense(1, "output_dense", dtype="float32")(features)
    if label is not None:
        embedding = style.embedding(num_classes, channels, "embedding", dtype="float32")(label)
        logit = logit + ops.sum(embedding * features, axis=-1, keepdims=True)
    return keras.Model(image if label is None else [image, label], logit, name="discriminator")


@pytest.fixture(scope="module")
def toy_networks():
    """Configs describe toy networks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "build_generator", toy_generator)
        patch.setattr(build, "build_discriminator", toy_discriminator)
        yield
