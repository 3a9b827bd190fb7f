"""A source to an endless tf.data stream of (picture in [-1, 1], label), which can be entered at any step."""

from __future__ import annotations

import tensorflow as tf

from sagan_tf.data.preprocessing import finish_batch


def make_dataset(source, batch_size, *, seed=0, start_step=0, flip=False, dequantize=False):
    """The endless stream of training batches of a source.

    Element number s is a pure function of (source, seed, s): a stream made with `start_step=k` equals the whole one
    after k elements, bit by bit, and gets there without decoding what lies before. Each data epoch of
    `source.num_images` pictures is a permutation of all of them; a batch may reach over the end of an epoch, or hold
    several epochs.
    Under a `tf.distribute` strategy the elements are global batches, to be split by pictures (`AutoShardPolicy.DATA`).

    Args:
        source: A `Source`.
        batch_size: B, pictures in an element, over all replicas.
        seed: int >= 0. Seed of the order, the flips and the noise.
        start_step: int >= 0. Number of the first element.
        flip: Mirror pictures left to right with probability 1/2.
        dequantize: Add uniform noise of one grey level.

    Returns:
        tf.data.Dataset of (image, label): float32 (B, H, W, C) in [-1, 1] and int32 (B,); (image,) alone where the
        source has no labels.

    Raises:
        ValueError: An argument is out of its range.
    """
    if batch_size < 1 or seed < 0 or start_step < 0:
        raise ValueError(
            "`batch_size` must be at least 1, `seed` and `start_step` at least 0. "
            f"Received: batch_size={batch_size}, seed={seed}, start_step={start_step}"
        )
    batch_shape = (batch_size, source.image_size, source.image_size, source.image_channels)

    def finish(step, batch):
        image, *label = batch
        image = finish_batch(image, seed % 2**63, step, flip=flip, dequantize=dequantize)
        return (tf.ensure_shape(image, batch_shape), *(tf.ensure_shape(x, (batch_size,)) for x in label))

    batches = source.reader.batches(batch_size, seed, start_step)
    numbered = tf.data.Dataset.zip(tf.data.Dataset.counter(start=start_step), batches)
    dataset = numbered.map(finish, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(_options())


def _options():
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options
