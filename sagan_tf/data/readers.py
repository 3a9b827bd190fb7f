"""Readers of a data set: images in memory, images by index, and records in order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np
import tensorflow as tf

_IMAGES, _FILES, _WINDOWS = 0, 1, 2  # Third word of the shuffling keys: what is permuted.
_OPEN_FILES = 16  # Read in turn, so that neighbours in one file do not share a batch.
_WINDOWS_PER_SEGMENT = 16


class Reader(Protocol):
    """What every reader offers. Data epoch e is images e*N to (e+1)*N - 1 of the shuffled stream."""

    num_images: int  # N

    def all_labels(self):
        """Returns the labels, int32 array (N,), or None."""

    def batches(self, batch_size, seed, start_step):
        """Returns the endless tf.data stream of shuffled uint8 batches, each (images,) or (images, labels).

        A pure function of reader and seed: `start_step` resumes it bit-exactly. Each data epoch is a permutation of
        all images; a batch may span the end of an epoch.
        """

    def in_order_batches(self, batch_size, start=0):
        """Yields all images from number `start` on, once, as arrays (images,) or (images, labels)."""

    def in_order(self):
        """Yields (function that loads the image, label or -1) of every image, decoding none."""


def _shuffle_index(index, size, seed, epoch, purpose=_IMAGES):
    """Maps positions (B,) in [0, size) to indices by the permutation of data epoch `epoch`, a scalar or (B,)."""
    purpose = tf.cast(purpose, tf.int64) + ((seed >> 31) << 20)
    words = [tf.broadcast_to(tf.cast(word, tf.int64), tf.shape(index)) for word in (seed & 0x7FFFFFFF, epoch, purpose)]
    key = tf.stack(words, axis=1)
    # The public tf.random.experimental.index_shuffle pads a batch of keys along the wrong axis (TF 2.21).
    return tf.raw_ops.RandomIndexShuffle(
        index=index, seed=tf.cast(key, tf.int32), max_index=tf.cast(size, tf.int64) - 1, rounds=4
    )


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

    def all_labels(self):
        return self.labels

    def batches(self, batch_size, seed, start_step):
        with tf.device("CPU:0"):  # Else the whole data set goes to the accelerator and back.
            tensors = [tf.constant(self.images)]
            if self.labels is not None:
                tensors.append(tf.constant(self.labels, tf.int32))

        def make_batch(step):
            position = step * batch_size + tf.range(batch_size, dtype=tf.int64)
            chosen = _shuffle_index(position % self.num_images, self.num_images, seed, position // self.num_images)
            return tuple(tf.gather(tensor, chosen) for tensor in tensors)

        return _map_in_parallel(tf.data.Dataset.counter(start=start_step), make_batch)

    def in_order_batches(self, batch_size, start=0):
        for first in range(start, self.num_images, batch_size):
            part = slice(first, first + batch_size)
            yield (self.images[part],) if self.labels is None else (self.images[part], self.labels[part])

    def in_order(self):
        for index in range(self.num_images):
            yield (lambda i=index: self.images[i]), (-1 if self.labels is None else int(self.labels[index]))


@dataclasses.dataclass(frozen=True)
class IndexedReader:
    """Reads images by index.

    Args:
        load: Graph function, int64 scalar in [0, N) -> uint8 image (H, W, C).
        labels: int32 array (N,), or None.
        files: Paths of the N pictures.
    """

    load: Callable
    labels: np.ndarray | None
    files: tuple[str, ...]

    @property
    def num_images(self):
        return len(self.files)

    def all_labels(self):
        return self.labels

    def batches(self, batch_size, seed, start_step):
        labels = None if self.labels is None else tf.constant(self.labels, tf.int32)

        def load_shuffled(position):
            epoch, index = position // self.num_images, position % self.num_images
            chosen = _shuffle_index(index[None], self.num_images, seed, epoch)[0]
            image = self.load(chosen)
            return (image,) if labels is None else (image, tf.gather(labels, chosen))

        images = _map_in_parallel(tf.data.Dataset.counter(start=start_step * batch_size), load_shuffled)
        return images.batch(batch_size, drop_remainder=True)

    def in_order_batches(self, batch_size, start=0):
        images = _map_in_parallel(tf.data.Dataset.range(start, self.num_images), self.load)
        first = start
        for batch in images.batch(batch_size).prefetch(2).as_numpy_iterator():
            part = slice(first, first + len(batch))
            first += len(batch)
            yield (batch,) if self.labels is None else (batch, self.labels[part])

    def in_order(self):
        for index in range(self.num_images):
            label = -1 if self.labels is None else int(self.labels[index])
            yield (lambda i=index: self.load(tf.constant(np.int64(i))).numpy()), label


@dataclasses.dataclass(frozen=True)
class RecordReader:
    """Reads records that can only be read in order from the start of a file, such as TFRecord.

    An epoch takes the files in a seeded order, a segment of several files at a time, reads the files of a segment in
    turn, and shuffles the undecoded records in windows. Both orders depend on seed and epoch alone. To start in the
    middle, whole segments are skipped unread, and the records before the position undecoded.

    Args:
        files: Paths of the F files.
        skips: int64 array (F,), records to skip at the start of each file.
        takes: int64 array (F,), records to read after those.
        open_file: Graph function, path -> tf.data.Dataset of records.
        parse: Graph function, record -> (encoded image,) or (encoded image, int32 label).
        decode: Graph function, encoded image -> uint8 image (H, W, C).
        shuffle_buffer: Undecoded records to hold in memory.
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
        return int(np.sum(self.takes))

    @property
    def _window(self):
        """Records that are shuffled together: half the buffer, since one window fills while another empties."""
        return max(1, self.shuffle_buffer // 2)

    @property
    def _files_per_segment(self):
        """Enough files for many windows, few enough that a start in the middle is quick."""
        num_files = self._window * _WINDOWS_PER_SEGMENT * len(self.files) / self.num_images
        return int(min(len(self.files), max(_OPEN_FILES, np.ceil(num_files))))

    def all_labels(self):
        labels = self._parsed_in_order().map(lambda image, label: label).batch(4096)
        return np.concatenate(list(labels.as_numpy_iterator()))

    def batches(self, batch_size, seed, start_step):
        records = self._shuffled_records(seed, start_step * batch_size)
        images = self._decode_all(_map_in_parallel(records, self.parse))
        return images.batch(batch_size, drop_remainder=True)

    def in_order_batches(self, batch_size, start=0):
        images = self._decode_all(self._parsed_in_order().skip(start))
        yield from images.batch(batch_size).prefetch(2).as_numpy_iterator()

    def in_order(self):
        for image, *label in self._parsed_in_order().as_numpy_iterator():
            yield (lambda data=image: self.decode(tf.constant(data)).numpy()), (int(label[0]) if label else -1)

    def _decode_all(self, parsed):
        return _map_in_parallel(parsed, lambda image, *label: (self.decode(image), *label))

    def _parsed_in_order(self):
        return _map_in_parallel(self._read_interleaved(np.arange(len(self.files))), self.parse)

    def _shuffled_records(self, seed, position):
        """Endless stream of records from number `position` on."""
        epoch, offset = divmod(position, self.num_images)
        starts = self._segment_starts(seed, epoch)
        segment = int(np.searchsorted(starts, offset, side="right")) - 1
        numbers = tf.data.Dataset.counter(start=epoch * len(starts) + segment)
        records = numbers.flat_map(lambda number: self._read_segment(seed, number, len(starts)))
        return records.skip(offset - int(starts[segment]))

    def _segment_starts(self, seed, epoch):
        """Offsets in the epoch at which its segments start."""
        takes = np.asarray(self.takes)[self._file_order(seed, epoch).numpy()]
        return np.concatenate([[0], np.cumsum(takes)[:-1]])[:: self._files_per_segment]

    def _file_order(self, seed, epoch):
        return _shuffle_index(tf.range(len(self.files), dtype=tf.int64), len(self.files), seed, epoch, _FILES)

    def _read_segment(self, seed, number, num_segments):
        """Records of one segment, shuffled in windows."""
        first = number % num_segments * self._files_per_segment
        order = self._file_order(seed, number // num_segments)
        records = self._read_interleaved(order[first : first + self._files_per_segment])

        def permute(window, values):
            size = tf.size(values, tf.int64)
            return tf.gather(values, _shuffle_index(tf.range(size), size, seed, number, _WINDOWS + window))

        windows = records.batch(self._window).enumerate().map(permute)
        return windows.prefetch(1).unbatch()

    def _read_interleaved(self, chosen):
        """Records of the chosen files, one from each file in turn."""
        columns = (np.asarray(self.files), np.asarray(self.skips, np.int64), np.asarray(self.takes, np.int64))
        table = tf.data.Dataset.from_tensor_slices(tuple(tf.gather(tf.constant(column), chosen) for column in columns))
        return table.interleave(
            lambda path, skip, take: self.open_file(path).skip(skip).take(take),
            cycle_length=min(_OPEN_FILES, len(self.files)),
            block_length=1,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
