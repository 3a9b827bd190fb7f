"""Turns a source into an endless stream of training batches that can be entered at any step."""

from __future__ import annotations

import tensorflow as tf

from sagan_tf.data.readers import without_autotuning


def make_dataset(source, batch_size, *, seed=0, start_step=0):
    """Makes the endless stream of training batches, in uint8: the step scales, flips and dequantizes on its device.

    Element s is a pure function of (source, seed, s). A stream with `start_step=k` is bit by bit the full stream
    without its first k elements, and skips them without decoding. Each data epoch of `source.num_images` images is a
    permutation of all of them; a batch may span the end of an epoch, or several epochs.
    Under a `tf.distribute` strategy an element is a global batch, to be split by `AutoShardPolicy.DATA`.

    Args:
        source: `Source`.
        batch_size: int >= 1, B: images in an element, over all replicas.
        seed: int >= 0. Seed of the order.
        start_step: int >= 0. Number of the first element.

    Returns:
        tf.data.Dataset of (image, label): uint8 (B, H, W, C) and int32 (B,); (image,) where the source has no labels.

    Raises:
        ValueError: An argument is out of its range.
    """
    if batch_size < 1 or seed < 0 or start_step < 0:
        raise ValueError(
            "`batch_size` must be at least 1, `seed` and `start_step` at least 0. "
            f"Received: batch_size={batch_size}, seed={seed}, start_step={start_step}"
        )
    batch_shape = (batch_size, *source.image_shape)

    def with_shape(image, *label):
        return (tf.ensure_shape(image, batch_shape), *(tf.ensure_shape(x, (batch_size,)) for x in label))

    dataset = source.reader.batches(batch_size, seed, start_step).map(with_shape)
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return without_autotuning(dataset.prefetch(2), options)
