"""Functional Keras models wired from our layers."""

from typing import TYPE_CHECKING

from sagan_tf.utils.lazy import lazy_exports

if TYPE_CHECKING:
    from sagan_tf.networks.discriminator import build_discriminator as build_discriminator
    from sagan_tf.networks.generator import build_generator as build_generator

# Lazily: a config needs the table of architectures, without Keras.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "build_discriminator": "sagan_tf.networks.discriminator",
        "build_generator": "sagan_tf.networks.generator",
    },
)
