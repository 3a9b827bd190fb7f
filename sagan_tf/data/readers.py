"""Readers of a data set: images in memory, and images by index."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np
import tensorflow as tf

from sagan_tf.files.hashing import hash_seed
from sagan_tf.utils.progress import progress_bar

_FETCHED_TOGETHER = 64  # Items; a call of Python for each would cost as much as decoding a small image.


PREPARE_AGAIN = "Remove what was prepared, and prepare the data again."


class DamagedImageError(ValueError):
    """An image or record cannot be read, or is not what was written; the message says what to do about it.

    TensorFlow names this class and the message.
    """


class Reader(Protocol):
    """What every reader offers. Data epoch e is images e*N to (e+1)*N - 1 of the shuffled stream."""

    num_images: int  # N
    labels: np.ndarray | None  # int32 (N,)

    def batches(self, batch_size, seed, start_step):
        """Makes the endless stream of shuffled batches.

        A pure function of reader and seed: `start_step` resumes it bit-exactly. Each data epoch is a permutation of
        all images, uniform and independent of the others; a batch may span the end of an epoch.

        Args:
            batch_size: int >= 1, B.
            seed: int of any size, of the order.
            start_step: int >= 0, batches to leave out.

        Returns:
            tf.data.Dataset of (images,) or (images, labels): uint8 (B, H, W, C), int32 (B,).
        """

    def in_order_batches(self, batch_size, start=0):
        """Yields all images from number `start` on, once, as arrays (images,) or (images, labels)."""

    def load(self, indices):
        """Loads the images of n indices in [0, N): uint8 (n, H, W, C)."""


def shuffled_orders(num_images, seed, position=0):
    """Makes the orders of the data epochs; two of them are in memory at a time.

    Order e sorts random 64-bit keys, which are a function of seed and e alone.

    Args:
        num_images: int >= 1, N.
        seed: int of any size.
        position: int >= 0, where in the concatenated orders the stream starts; the first order may be shorter.

    Returns:
        Endless tf.data.Dataset of int32 tensors, (N,) indices each.
    """
    first_epoch, offset = divmod(position, num_images)
    seed_key = tf.constant(hash_seed(seed, "data order"), tf.int64)

    def make_order(epoch):
        # The algorithm by name: the default differs between devices.
        keys = tf.random.stateless_uniform(
            [num_images], tf.stack([seed_key, epoch]), minval=None, maxval=None, dtype=tf.int64, alg="philox"
        )
        return tf.argsort(keys, stable=True)[tf.where(epoch == first_epoch, offset, 0) :]

    return tf.data.Dataset.counter(start=first_epoch).map(make_order).prefetch(1)


def without_autotuning(dataset, options=None):
    """Returns the data set without TensorFlow's autotuning; `options`, if given, are its other `tf.data.Options`.

    Its thread may miss that the iterator ends; deleting the iterator then waits for the thread's next turn, up to a
    minute.
    """
    options = options or tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def _map_in_parallel(dataset, function):
    return dataset.map(function, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


@dataclasses.dataclass(frozen=True)
class ArrayReader:
    """Reads images that are in memory.

    Args:
        images: uint8 array (N, H, W, C).
        labels: int32 array (N,), or None.
    """

    images: np.ndarray
    labels: np.ndarray | None

    @property
    def num_images(self):
        return len(self.images)

    def batches(self, batch_size, seed, start_step):
        with tf.device("CPU:0"):  # Else the whole data set goes to the accelerator and back.
            tensors = [tf.constant(self.images)]
            if self.labels is not None:
                tensors.append(tf.constant(self.labels, tf.int32))

        indices = shuffled_orders(self.num_images, seed, start_step * batch_size).rebatch(batch_size)
        return _map_in_parallel(indices, lambda chosen: tuple(tf.gather(tensor, chosen) for tensor in tensors))

    def in_order_batches(self, batch_size, start=0):
        for first in range(start, self.num_images, batch_size):
            part = slice(first, first + batch_size)
            yield (self.images[part],) if self.labels is None else (self.images[part], self.labels[part])

    def load(self, indices):
        return self.images[indices]


@dataclasses.dataclass(frozen=True)
class IndexedReader:
    """Reads images by index.

    Args:
        fetch: Graph function, int64 indices (B,) in [0, N) -> strings (B,), such as paths or encoded images.
        decode: Graph function, string -> uint8 image (H, W, C); None if `fetch` gives images, uint8 (B, H, W, C).
        labels: int32 array (N,), or None.
        files: Paths of the N images.
    """

    fetch: Callable
    decode: Callable | None
    labels: np.ndarray | None
    files: tuple[str, ...]

    @property
    def num_images(self):
        return len(self.files)

    def batches(self, batch_size, seed, start_step):
        labels = None if self.labels is None else tf.constant(self.labels, tf.int32)

        def fetch_labeled(indices):
            fetched = self.fetch(tf.cast(indices, tf.int64))
            return (fetched,) if labels is None else (fetched, tf.gather(labels, indices))

        indices = shuffled_orders(self.num_images, seed, start_step * batch_size)
        if self.decode is None:
            return _map_in_parallel(indices.rebatch(batch_size), fetch_labeled)
        indices = indices.rebatch(_FETCHED_TOGETHER)
        items = _map_in_parallel(indices, fetch_labeled).unbatch()
        images = _map_in_parallel(items, lambda item, *label: (self.decode(item), *label))
        return images.batch(batch_size, drop_remainder=True)

    def in_order_batches(self, batch_size, start=0):
        indices = tf.data.Dataset.range(start, self.num_images)
        if self.decode is None:
            batches = _map_in_parallel(indices.batch(batch_size), self.fetch)
        else:
            items = _map_in_parallel(indices.batch(_FETCHED_TOGETHER), self.fetch).unbatch()
            batches = _map_in_parallel(items, self.decode).batch(batch_size)
        first = start
        for batch in without_autotuning(batches.prefetch(2)).as_numpy_iterator():
            part = slice(first, first + len(batch))
            first += len(batch)
            yield (batch,) if self.labels is None else (batch, self.labels[part])

    def load(self, indices):
        items = (self.fetch(tf.constant([index], tf.int64))[0] for index in indices)
        return np.stack([(item if self.decode is None else self.decode(item)).numpy() for item in items])


@dataclasses.dataclass(frozen=True)
class RecordReader(IndexedReader):
    """Reads the records of TFRecord files by index.

    Args:
        fetch, decode, labels: As `IndexedReader`.
        files: Paths of the F files.
        skips: int64 array (F,), records to skip at the start of each file.
        takes: int64 array (F,), records to read after those; N in all.
    """

    skips: np.ndarray
    takes: np.ndarray

    @property
    def num_images(self):
        return int(np.sum(self.takes))


def read_into_memory(reader, options, show_progress):
    """Returns an `ArrayReader` of the same images if these fit the memory limit of `DataOptions`, or else `reader`."""
    shape = (reader.num_images, *options.image_shape)
    if np.prod(shape, dtype=np.int64) > options.memory_limit_gib * 2**30:
        return reader
    images, count = np.empty(shape, np.uint8), 0
    settings = {"desc": f"reading {options.name}", "unit": "img", "disable": not show_progress}
    with progress_bar(total=len(images), **settings) as bar:
        for batch, *_ in reader.in_order_batches(256):
            images[count : count + len(batch)] = batch
            count += len(batch)
            bar.update(len(batch))
    return ArrayReader(images, reader.labels)
