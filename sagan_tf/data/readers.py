"""Ways to read a data set: pictures in memory, pictures by number, records in order; each a stream in a seeded order.

Every reader has `num_images`, `batches(batch_size, seed, start_step)`, for training, and `in_order_batches(batch_size,
start)`, for looking at each picture once. The stream of batches is a pure function of
the reader and the seed, so that `start_step` resumes it bit-exactly; data epoch e, the pictures e*N to (e+1)*N - 1
of the stream, holds each picture once, and a batch may reach over the end of an epoch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

_PICTURES, _FILES, _WINDOWS = 0, 1, 2  # Third word of the shuffling keys: which thing is put in order.
_FILES_AT_ONCE = 16  # Files read in turn, so that neighbours in one file do not meet in a batch.
_WINDOWS_A_SEGMENT = 16


def shuffled(index, size, seed, epoch, purpose=_PICTURES):
    """Places that positions take in the seeded permutation of a data epoch.

    Args:
        index: int64 tensor (B,), positions 0 .. size - 1.
        size: Number of things that are permuted, int or int64 scalar.
        seed: int >= 0.
        epoch: int64 tensor (B,) or scalar, the permutation's number.
        purpose: int or int64 scalar, what is permuted.

    Returns:
        int64 tensor (B,), values 0 .. size - 1.
    """
    purpose = tf.cast(purpose, tf.int64) + ((seed >> 31) << 20)
    words = [tf.broadcast_to(tf.cast(word, tf.int64), tf.shape(index)) for word in (seed & 0x7FFFFFFF, epoch, purpose)]
    key = tf.stack(words, axis=1)
    # The public tf.random.experimental.index_shuffle pads a batch of keys along the wrong axis (TF 2.21).
    return tf.raw_ops.RandomIndexShuffle(
        index=index, seed=tf.cast(key, tf.int32), max_index=tf.cast(size, tf.int64) - 1, rounds=4
    )


@dataclasses.dataclass(frozen=True)
class ArrayReader:
    """Pictures that lie in memory.

    Args:
        images: uint8 array (N, H, W, C).
        labels: int32 array (N,), or None.
    """

    images: np.ndarray
    labels: np.ndarray | None

    @property
    def num_images(self):
        """Pictures in an epoch."""
        return len(self.images)

    def all_labels(self):
        """Labels of all pictures, int32 array (N,)."""
        return self.labels

    def batches(self, batch_size, seed, start_step):
        """The stream of uint8 batches from number `start_step`, each a tuple (images,) or (images, labels)."""
        with tf.device("CPU:0"):  # Elsewhere the whole set would go to the accelerator and back.
            tensors = [tf.constant(self.images)]
            if self.labels is not None:
                tensors.append(tf.constant(self.labels, tf.int32))

        def batch(step):
            position = step * batch_size + tf.range(batch_size, dtype=tf.int64)
            chosen = shuffled(position % self.num_images, self.num_images, seed, position // self.num_images)
            return tuple(tf.gather(tensor, chosen) for tensor in tensors)

        steps = tf.data.Dataset.counter(start=start_step)
        return steps.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def in_order_batches(self, batch_size, start=0):
        """All pictures from number `start` on, once, in their own order: uint8 (images,) or (images, labels)."""
        for first in range(start, self.num_images, batch_size):
            part = slice(first, first + batch_size)
            yield (self.images[part],) if self.labels is None else (self.images[part], self.labels[part])

    def in_order(self):
        """All pictures once, in their own order, and without decoding: (load function, label or -1) pairs."""
        for index in range(self.num_images):
            yield (lambda i=index: self.images[i]), (-1 if self.labels is None else int(self.labels[index]))


@dataclasses.dataclass(frozen=True)
class IndexedReader:
    """Pictures that are read, or made, when they are asked for by number.

    Args:
        num_images: N.
        load: Graph function, int64 scalar 0 .. N - 1 -> uint8 picture (H, W, C).
        labels: int32 array (N,), or None.
        files: Paths of the N pictures.
    """

    num_images: int
    load: Callable
    labels: np.ndarray | None
    files: tuple[str, ...] = ()

    def all_labels(self):
        """Labels of all pictures, int32 array (N,)."""
        return self.labels

    def batches(self, batch_size, seed, start_step):
        """The stream of uint8 batches from number `start_step`, each a tuple (images,) or (images, labels)."""
        labels = None if self.labels is None else tf.constant(self.labels, tf.int32)

        def picture(position):
            epoch, place = position // self.num_images, position % self.num_images
            chosen = shuffled(place[None], self.num_images, seed, epoch)[0]
            image = self.load(chosen)
            return (image,) if labels is None else (image, tf.gather(labels, chosen))

        positions = tf.data.Dataset.counter(start=start_step * batch_size)
        pictures = positions.map(picture, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return pictures.batch(batch_size, drop_remainder=True)

    def in_order_batches(self, batch_size, start=0):
        """All pictures from number `start` on, once, in their own order: uint8 (images,) or (images, labels)."""
        positions = tf.data.Dataset.range(start, self.num_images)
        pictures = positions.map(self.load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        first = start
        for images in pictures.batch(batch_size).prefetch(2).as_numpy_iterator():
            part = slice(first, first + len(images))
            first += len(images)
            yield (images,) if self.labels is None else (images, self.labels[part])

    def in_order(self):
        """All pictures once, in their own order, and without decoding: (load function, label or -1) pairs."""
        for index in range(self.num_images):
            label = -1 if self.labels is None else int(self.labels[index])
            yield (lambda i=index: self.load(tf.constant(np.int64(i))).numpy()), label


@dataclasses.dataclass(frozen=True)
class RecordReader:
    """Records that can only be read in order from the start of a file, as TFRecord.

    An epoch takes the files in a seeded order, some at a time (a segment), reads those in turn, and shuffles the
    records in windows before they are decoded. Both depend on the seed and the number of the epoch alone. To start in
    the middle, whole segments are passed over unread, and the records before the place undecoded.

    Args:
        files: Paths of the files.
        skips: int64 array (F,), records to pass over at the start of each file.
        takes: int64 array (F,), records to read after those.
        open_file: Graph function, path -> tf.data.Dataset of records.
        parse: Graph function, record -> (encoded picture,) or (encoded picture, int32 label).
        decode: Graph function, encoded picture -> uint8 picture (H, W, C).
        shuffle_buffer: Undecoded records held in memory.
    """

    files: tuple[str, ...]
    skips: np.ndarray
    takes: np.ndarray
    open_file: Callable
    parse: Callable
    decode: Callable
    shuffle_buffer: int

    @property
    def num_images(self):
        """Pictures in an epoch."""
        return int(np.sum(self.takes))

    @property
    def window(self):
        """Records that are shuffled together; half the buffer, for one window is filled while another is used up."""
        return max(1, self.shuffle_buffer // 2)

    @property
    def files_a_segment(self):
        """Files that are open together; enough for many windows, few enough that a start in the middle is quick."""
        wanted = self.window * _WINDOWS_A_SEGMENT * len(self.files) / self.num_images
        return int(min(len(self.files), max(_FILES_AT_ONCE, np.ceil(wanted))))

    def batches(self, batch_size, seed, start_step):
        """The stream of uint8 batches from number `start_step`, each a tuple (images,) or (images, labels)."""

        records = self._records(seed, start_step * batch_size).map(
            self.parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        return self._decoded(records).batch(batch_size, drop_remainder=True)

    def in_order_batches(self, batch_size, start=0):
        """All pictures from number `start` on, once, in the order of the files: uint8 (images,) or (images, labels)."""
        pictures = self._decoded(self.parsed().skip(start))
        yield from pictures.batch(batch_size).prefetch(2).as_numpy_iterator()

    def _decoded(self, parsed):
        return parsed.map(
            lambda image, *label: (self.decode(image), *label), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )

    def in_order(self):
        """All pictures once, in the order of the files, and without decoding: (load function, label or -1) pairs."""
        for image, *label in self.parsed().as_numpy_iterator():
            yield (lambda data=image: self.decode(tf.constant(data)).numpy()), (int(label[0]) if label else -1)

    def all_labels(self):
        """Labels of all pictures, int32 array (N,), read without decoding one."""
        labels = self.parsed().map(lambda image, label: label).batch(4096)
        return np.concatenate(list(labels.as_numpy_iterator()))

    def parsed(self):
        """All records once, in the order of the files: a data set of (encoded picture,) or (encoded picture, label)."""
        records = self._read(np.arange(len(self.files)))
        return records.map(self.parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def _records(self, seed, position):
        """The endless stream of records from number `position`."""
        epoch, place = divmod(position, self.num_images)
        starts = self._segment_starts(seed, epoch)
        segment = int(np.searchsorted(starts, place, side="right")) - 1
        numbers = tf.data.Dataset.counter(start=epoch * len(starts) + segment)
        records = numbers.flat_map(lambda number: self._segment(seed, number, len(starts)))
        return records.skip(place - int(starts[segment]))

    def _segment_starts(self, seed, epoch):
        """Positions inside the epoch at which its segments start."""
        takes = np.asarray(self.takes)[self._order(seed, epoch).numpy()]
        return np.concatenate([[0], np.cumsum(takes)[:-1]])[:: self.files_a_segment]

    def _order(self, seed, epoch):
        return shuffled(tf.range(len(self.files), dtype=tf.int64), len(self.files), seed, epoch, _FILES)

    def _segment(self, seed, number, num_segments):
        """The records of one segment, shuffled in windows."""
        first = number % num_segments * self.files_a_segment
        records = self._read(self._order(seed, number // num_segments)[first : first + self.files_a_segment])

        def permute(window, held):
            size = tf.size(held, tf.int64)
            return tf.gather(held, shuffled(tf.range(size), size, seed, number, _WINDOWS + window))

        windows = records.batch(self.window).enumerate().map(permute)
        return windows.prefetch(1).unbatch()

    def _read(self, chosen):
        """The records of the chosen files, read in turn."""
        columns = (np.asarray(self.files), np.asarray(self.skips, np.int64), np.asarray(self.takes, np.int64))
        table = tf.data.Dataset.from_tensor_slices(tuple(tf.gather(tf.constant(column), chosen) for column in columns))
        return table.interleave(
            lambda path, skip, take: self.open_file(path).skip(skip).take(take),
            cycle_length=min(_FILES_AT_ONCE, len(self.files)),
            block_length=1,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
