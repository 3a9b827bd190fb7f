"""What tells whether a data set is still the one that numbers were computed of."""

from __future__ import annotations

import hashlib
import os

import numpy as np

from sagan_tf.data.readers import ArrayReader, IndexedReader


def fingerprint(source):
    """Hashes what a data set holds: pixels where they lie in memory, otherwise names, sizes and times of the files.

    Args:
        source: `data.sources.Source`.

    Returns:
        str, hexadecimal.
    """
    reader, whole = source.reader, hashlib.sha256()
    if isinstance(reader, ArrayReader):
        whole.update(np.ascontiguousarray(reader.images).data)
        labels = reader.labels
    else:
        indexed = isinstance(reader, IndexedReader)
        for file in reader.files:
            about = os.stat(file)
            # A prepared data set may be copied from disk to disk; pictures of a folder are edited in place.
            changed = f"\0{about.st_mtime_ns}" if indexed else ""
            whole.update(f"{os.path.basename(file)}\0{about.st_size}{changed}\n".encode())
        if not indexed:
            whole.update(np.stack([reader.skips, reader.takes]).astype(np.int64).tobytes())
        labels = reader.labels if indexed else None
    if labels is not None:
        whole.update(np.asarray(labels, np.int32).tobytes())
    return whole.hexdigest()
