"""TFRecord files, read by the number of a record."""

from __future__ import annotations

import concurrent.futures
import itertools

import google_crc32c
import numpy as np
import tensorflow as tf

from sagan_tf.data.readers import PREPARE_AGAIN, DamagedImageError

_HEADER, _FOOTER = 12, 4  # Bytes around a record: its length, uint64, and the checksum of that; its own checksum.
_THREADS = 16  # Hide the latency of the disk.


def make_record_reader(files, skips, takes):
    """Locates records by their headers, without reading them.

    Args:
        files: Paths of the F uncompressed files.
        skips: int array (F,), records to skip at the start of each file.
        takes: int array (F,), records to use after those.

    Returns:
        A graph function, int64 indices (B,) in [0, sum of takes) -> the contents of these records, strings (B,).

    Raises:
        tf.errors.DataLossError: A file has too few records.
    """
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as threads:
        per_file = list(threads.map(_locate_records, files, skips, takes))
    offsets, lengths = np.concatenate(per_file, axis=1)
    first_of_file = np.cumsum([0, *takes])

    def read(indices):
        numbers = np.searchsorted(first_of_file, indices, side="right") - 1
        places = zip(numbers.tolist(), offsets[indices].tolist(), lengths[indices].tolist())
        return np.array([_read_bytes(files[number], offset, length) for number, offset, length in places], object)

    return lambda indices: tf.ensure_shape(tf.numpy_function(read, [indices], tf.string), [None])


def _read_bytes(path, offset, length):
    try:
        with _open(path) as file:
            file.seek(offset)
            record = file.read(length + _FOOTER)
    except OSError as error:  # since it was opened
        raise DamagedImageError(f"{path}: cannot be read: {error.strerror}.") from None
    content, footer = record[:length], record[length:]
    # A flipped byte of a JPEG would give another image without an error.
    if int.from_bytes(footer, "little") != _checksum(content):
        raise DamagedImageError(f"{path}: the record at byte {offset - _HEADER} is damaged. {PREPARE_AGAIN}")
    return content


def _checksum(content):
    """The masked CRC-32C of TFRecord files."""
    crc = google_crc32c.value(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _locate_records(path, skip, take):
    """Returns offsets and lengths of the contents of the records, int64 (2, take)."""
    with _open(path) as file:
        located = np.array(list(itertools.islice(_walk(file, path), skip, skip + take)), np.int64).reshape(-1, 2)
    if len(located) < take:
        raise tf.errors.DataLossError(None, None, f"{path}: has fewer than {skip + take} records.")
    return located.T


def _walk(file, path):
    """Yields (offset, length) of the contents of each record."""
    size, position = file.seek(0, 2) or file.tell(), 0
    while position < size:
        file.seek(position)
        length = int.from_bytes(file.read(8), "little")
        end = position + _HEADER + length + _FOOTER
        if end > size:
            raise tf.errors.DataLossError(None, None, f"{path}: the record at byte {position} is damaged.")
        yield position + _HEADER, length
        position = end


def _open(path):
    """Opens a local file unbuffered, since other files read 512 KiB ahead."""
    return tf.io.gfile.GFile(path, "rb") if "://" in path else open(path, "rb", buffering=0)
