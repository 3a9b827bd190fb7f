"""Functional Keras models wired from our layers."""

from sagan_tf.networks.discriminator import build_discriminator as build_discriminator
from sagan_tf.networks.generator import build_generator as build_generator
