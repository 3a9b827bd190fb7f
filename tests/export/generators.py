"""Small generators in a state as after training: random weights, power iteration not converged."""

import keras
import numpy as np
from toy_networks import toy_generator

from sagan_tf.layers import SelfAttention
from sagan_tf.networks import build_generator

LATENT_DIM = 12
NUM_CLASSES = 5


def make_generator(num_classes=NUM_CLASSES, seed=0, builder=build_generator, **arguments):
    """Returns a generator of 32 px with 4 channels and random weights; `arguments` are those of the builder."""
    options = dict(image_size=32, channels=4, latent_dim=LATENT_DIM, attention_sizes=(8, 16)) | arguments
    generator = builder(num_classes=num_classes, **options)
    rng = np.random.default_rng(seed)
    for weight in generator.weights:
        weight.assign(_random_value(weight, rng))
    for i, layer in enumerate(layer for layer in generator.layers if isinstance(layer, SelfAttention)):
        layer.gamma.assign(0.7 * (-1) ** i)
    return generator


def make_toy_generator(num_classes=NUM_CLASSES, **arguments):
    """As `make_generator`, for what does not depend on the network."""
    return make_generator(num_classes, builder=toy_generator, channels=8, **arguments)


def _random_value(weight, rng):
    value = np.float32(keras.ops.convert_to_numpy(weight))
    if "moving_variance" in weight.path:
        return rng.uniform(0.5, 2, value.shape)
    # Smaller noise on kernels: without spectral normalization large values give only black and white pixels.
    return value + (0.1 if "kernel" in weight.path else 0.3) * rng.standard_normal(value.shape)


def make_inputs(batch=6, num_classes=NUM_CLASSES, seed=1):
    """Returns [latents (B, D), labels (B,)], or the latents only without classes."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((batch, LATENT_DIM), np.float32)
    return latent if num_classes is None else [latent, rng.integers(0, num_classes, batch, np.int32)]


def images_of(model, inputs):
    """Returns the model's images as an array."""
    return keras.ops.convert_to_numpy(model(inputs, training=False))
