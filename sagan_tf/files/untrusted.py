"""Reading of files that may be edited, damaged or hostile.

Weights hardly compress, so a file that claims to unpack to many times its size is refused: reading takes at most
`FLOOR_BYTES` plus `EXPANSION` times the size of the file.
"""

import contextlib
import json
import math
import os
import zipfile

import numpy as np

from sagan_tf.errors import UserError

FLOOR_BYTES = 1 << 28  # 256 MiB, which any machine that runs TensorFlow can spare
EXPANSION = 20


def read_text(path):
    """Reads a text file, replacing bytes that are not UTF-8; UserError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from None


def read_json(path):
    """Reads a JSON file; None if it does not hold JSON, UserError if it cannot be read."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError):
        return None


def read_arrays(path):
    """Reads the arrays of an `.npz` file by name, without pickles; damaged bytes raise any exception."""
    # NumPy does not close a file that it opened and cannot read.
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def check_archive(path):
    """Raises ValueError for a ZIP file that unpacks to far more than its size; accepts other formats."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            # Python's reader stops at the declared size.
            check_claim(path, sum(member.file_size for member in archive.infolist()))


def check_claim(path, claimed_bytes):
    """Raises ValueError for a file that claims to hold far more than its size."""
    size = os.path.getsize(path)
    if claimed_bytes > FLOOR_BYTES + EXPANSION * size:
        raise ValueError(f"it claims to unpack to {_mib(claimed_bytes)}, but is {_mib(size)} long.")


@contextlib.contextmanager
def bounded_variables(limit_bytes):
    """Raises ValueError before TensorFlow variables created in the block take more than `limit_bytes` together."""
    import tensorflow as tf

    remaining = limit_bytes

    def create(next_creator, **arguments):
        nonlocal remaining
        value = arguments["initial_value"]
        with tf.Graph().as_default():  # here an initializer has a shape and takes no memory
            spec = value() if callable(value) else tf.convert_to_tensor(value)
        remaining -= spec.dtype.size * math.prod(spec.shape)
        if remaining < 0:
            raise ValueError(f"its networks would take more than the {_mib(limit_bytes)} that its weights do.")
        return next_creator(**arguments)

    with tf.variable_creator_scope(create):
        yield


def _mib(size):
    return f"{size / 2**20:.1f} MiB"
