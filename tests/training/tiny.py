"""The smallest SAGAN and data for it."""

import keras
import numpy as np
import tensorflow as tf

from sagan_tf.networks import build_discriminator, build_generator
from sagan_tf.training import SAGAN


def make_gan(optimizer=keras.optimizers.SGD, rate=1e-3, num_classes=3, dtype=None, compile_arguments=None, **arguments):
    """A SAGAN for 32 px pictures with 8 channels, compiled."""
    sizes = dict(image_size=32, channels=8, num_classes=num_classes, attention_sizes=(16,), dtype=dtype)
    gan = SAGAN(build_generator(**sizes), build_discriminator(**sizes), **arguments)
    gan.compile(optimizer(rate), optimizer(4 * rate), **(compile_arguments or {}))
    return gan


def make_data(batch_size, batches, num_classes=3, seed=0):
    """Random pictures and labels."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(-1, 1, (batch_size * batches, 32, 32, 3)).astype("float32")
    label = rng.integers(0, num_classes, batch_size * batches).astype("int32")
    dataset = tf.data.Dataset.from_tensor_slices((image, label))
    return dataset.batch(batch_size, drop_remainder=True)


def fit(gan, dataset, **arguments):
    """Fits silently."""
    return gan.fit(dataset, verbose=0, shuffle=False, **arguments).history
