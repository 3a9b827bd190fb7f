"""Standing statistics: recomputed batch statistics, for a generator whose moving ones do not match its weights."""

import contextlib

import keras

from sagan_tf.generation.latents import random_batches
from sagan_tf.layers.batch_normalization import batch_normalizations
from sagan_tf.layers.keras_compat import all_trainable
from sagan_tf.utils.progress import progress_bar

BATCH_SIZE = 64


def set_standing_statistics(generator, num_classes, batches=100, batch_size=BATCH_SIZE, seed=0):
    """Sets the moving means and variances of a generator to their averages over newly drawn batches; shows a bar.

    Labels are drawn uniformly. Nothing else changes, not even the u of spectral normalization. The generator may be
    frozen, as an average is.

    Args:
        generator: Built keras.Model, see `build_generator`.
        num_classes: int, K, or None without classes.
        batches: int >= 1.
        batch_size: int >= 1, images per batch.
        seed: int >= 0, of latents and labels.

    Source: Brock et al. 2019, section 4.1 ("standing statistics"), https://arxiv.org/abs/1809.11096.
    """
    with all_trainable(generator):  # a frozen batch normalization ignores the batch
        _average_statistics(generator, num_classes, batches, batch_size, seed)


def _average_statistics(generator, num_classes, batches, batch_size, seed):
    normalizations = batch_normalizations(generator)
    moving = {id(weight) for layer in normalizations for weight in layer.non_trainable_weights}
    others = [weight for weight in generator.non_trainable_weights if id(weight) not in moving]
    before = [weight.numpy() for weight in others]
    drawn = random_batches(generator.inputs[0].shape[-1], num_classes, batches, batch_size, seed)
    with contextlib.ExitStack() as stack:
        for layer in normalizations:
            stack.callback(setattr, layer, "momentum", layer.momentum)
        bar = progress_bar(drawn, total=batches, unit="batch", desc="batch statistics", leave=False)
        for i, inputs in enumerate(bar):
            # A running mean: batch i gets the weight 1 / (i + 1).
            for layer in normalizations:
                layer.momentum = i / (i + 1)
            inputs = [keras.ops.convert_to_tensor(value) for value in inputs]
            generator(inputs if len(inputs) > 1 else inputs[0], training=True)
            for weight, value in zip(others, before):
                weight.assign(value)
