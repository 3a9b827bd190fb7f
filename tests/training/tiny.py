"""The smallest SAGAN and data for it."""

from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from toy_networks import toy_discriminator, toy_generator

from sagan_tf.training import SAGAN
from sagan_tf.training.distribution import prefetch_to_device


def make_gan(
    optimizer=keras.optimizers.SGD, rate=1e-3, num_classes=3, dtype=None, attention_sizes=(), compile_arguments=None,
    **arguments,
):  # fmt: skip
    """A SAGAN of toy networks for 32 px images, compiled; without attention, which takes half of the time."""
    options = dict(num_classes=num_classes, dtype=dtype, attention_sizes=attention_sizes)
    gan = SAGAN(toy_generator(**options), toy_discriminator(**options), **arguments)
    gan.compile(optimizer(rate), optimizer(4 * rate), **(compile_arguments or {}))
    return gan


def make_data(batch_size, batches, num_classes=3, seed=0):
    """Random images and labels."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(-1, 1, (batch_size * batches, 32, 32, 3)).astype("float32")
    label = rng.integers(0, num_classes, batch_size * batches).astype("int32")
    dataset = tf.data.Dataset.from_tensor_slices((image, label))
    return dataset.batch(batch_size, drop_remainder=True)


def prefetch_to_last_cpu(dataset, strategy):
    """`prefetch_to_device`, which takes the last logical CPU device for a GPU."""
    cpus = tf.config.list_logical_devices("CPU")
    with mock.patch.object(tf.config, "list_logical_devices", return_value=cpus[-1:]):
        return prefetch_to_device(dataset, strategy)


def fit(gan, dataset, **arguments):
    """Fits silently."""
    return gan.fit(dataset, verbose=0, shuffle=False, **arguments).history
