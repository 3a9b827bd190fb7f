"""Tells whether a data set is the one that stored statistics were computed from."""

from __future__ import annotations

import hashlib
import os

import numpy as np

from sagan_tf.data.readers import ArrayReader, RecordReader


def fingerprint(source):
    """Hashes pixels and labels where they are in memory, otherwise names, sizes and times of the files; returns hex."""
    reader, digest = source.reader, hashlib.sha256()
    if isinstance(reader, ArrayReader):
        digest.update(np.ascontiguousarray(reader.images).data)
    elif isinstance(reader, RecordReader):
        _hash_files(digest, reader.files, with_times=False)  # Prepared data sets are copied from disk to disk.
        digest.update(np.stack([reader.skips, reader.takes]).astype(np.int64).tobytes())
        return digest.hexdigest()
    else:
        _hash_files(digest, reader.files, with_times=True)  # Pictures of a folder are edited in place.
    if reader.labels is not None:
        digest.update(np.asarray(reader.labels, np.int32).tobytes())
    return digest.hexdigest()


def _hash_files(digest, files, with_times):
    for file in files:
        status = os.stat(file)
        time = f"\0{status.st_mtime_ns}" if with_times else ""
        digest.update(f"{os.path.basename(file)}\0{status.st_size}{time}\n".encode())
