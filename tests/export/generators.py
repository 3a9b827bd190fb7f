"""Small generators as training leaves them: nothing at its initial value, the power iteration not converged."""

import keras
import numpy as np

from sagan_tf.layers import SelfAttention
from sagan_tf.networks import build_generator

LATENT_DIM = 12
NUM_CLASSES = 5


def make_generator(num_classes=NUM_CLASSES, seed=0, **arguments):
    """A generator of 32 px with 4 channels and drawn weights.

    Args:
        num_classes: int or None.
        seed: int, of the weights.
        arguments: For `build_generator`.

    Returns:
        keras.Model.
    """
    options = dict(image_size=32, channels=4, latent_dim=LATENT_DIM, attention_sizes=(8, 16)) | arguments
    generator = build_generator(num_classes=num_classes, **options)
    rng = np.random.default_rng(seed)
    for weight in generator.weights:
        weight.assign(_drawn(weight, rng))
    for i, layer in enumerate(layer for layer in generator.layers if isinstance(layer, SelfAttention)):
        layer.gamma.assign(0.7 * (-1) ** i)
    return generator


def _drawn(weight, rng):
    value = np.float32(keras.ops.convert_to_numpy(weight))
    if "moving_variance" in weight.path:
        return rng.uniform(0.5, 2, value.shape)
    # Kernels less than the rest: without spectral normalisation they add up to pictures of black and white alone.
    return value + (0.1 if "kernel" in weight.path else 0.3) * rng.standard_normal(value.shape)


def make_inputs(batch=6, num_classes=NUM_CLASSES, seed=1):
    """Latents (B, D) and labels (B,) as a list, or the latents alone.

    Args:
        batch: int, B.
        num_classes: int or None.
        seed: int.

    Returns:
        list of NumPy arrays, or one of them.
    """
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((batch, LATENT_DIM), np.float32)
    return latent if num_classes is None else [latent, rng.integers(0, num_classes, batch, np.int32)]


def images_of(model, inputs):
    """The model's images as an array."""
    return keras.ops.convert_to_numpy(model(inputs, training=False))
