"""Reading of files that may be edited, damaged or hostile.

Weights hardly compress, so a file that claims to unpack to many times its size is refused: reading takes at most
`FLOOR_BYTES` plus `EXPANSION` times the size of the file.
"""

import contextlib
import itertools
import json
import math
import os
import stat
import zipfile

import h5py
import numpy as np

from sagan_tf.errors import UserError, format_size

FLOOR_BYTES = 1 << 28  # 256 MiB, which any machine that runs TensorFlow can spare
EXPANSION = 20
MAX_TEXT_BYTES = 1 << 26
MAX_MAP_VALUES = 1 << 26  # per image: 16 times the widest map of a generator at the paper's width
_RECORD_BYTES = 16  # of a TFRecord besides its content: its length and two checksums
_VARIABLE_BYTES = 4  # per byte of a Keras file, for other dtypes and Keras' own variables


def check_kind(path):
    """Raises UserError for a pipe, a socket or a device: reading one may never end. A missing path is accepted."""
    with contextlib.suppress(OSError):
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UserError(f"{path}: is a pipe, a socket or a device instead of a file. Remove it.")


def check_kinds(folder):
    """Calls `check_kind` for all that is in a folder, if there is one."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            check_kind(entry.path)


def read_text(path):
    """Reads a text file, replacing bytes that are not UTF-8; UserError if it cannot be read or is too large."""
    try:
        check_kind(path)
        if (size := os.path.getsize(path)) > MAX_TEXT_BYTES:
            raise UserError(f"{path}: is too large, {format_size(size)} of at most {format_size(MAX_TEXT_BYTES)}.")
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from None


def read_json(path):
    """Reads a JSON file; None if it does not hold JSON, UserError if it cannot be read."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError):
        return None


def check_records(path, max_records):
    """Checks the lengths of the records of a TFRecord file, since TensorFlow reads as many bytes as a length claims.

    Args:
        path: Path of the uncompressed file.
        max_records: int, number of records at its start that are going to be read.

    Raises:
        UserError: The path is a pipe, a socket or a device.
        ValueError: A record is longer than the rest of the file, or these take more than `FLOOR_BYTES`.
    """
    check_kind(path)
    with open(path, "rb", buffering=0) as file:
        size, start = os.path.getsize(path), 0
        for _ in range(max_records):
            if start == size:
                break
            file.seek(start)
            end = start + _RECORD_BYTES + int.from_bytes(file.read(8), "little")
            if end > min(size, FLOOR_BYTES):
                limit = f"the file or {format_size(FLOOR_BYTES)}"
                raise ValueError(f"{path}: the record at byte {start} claims to end after {limit}.")
            start = end


def read_arrays(path):
    """Reads the arrays of an `.npz` file by name, without pickles.

    Raises ValueError for a file that unpacks to far more than its size. A damaged file can raise any exception.
    """
    check_kind(path)
    check_archive(path)
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
        raise ValueError(f"it claims to unpack to {format_size(claimed_bytes)}, but is {format_size(size)} long.")


@contextlib.contextmanager
def bounded_keras_file(path):
    """Raises ValueError in the block, or before, for a Keras file that takes far more memory than its size to load."""
    check_kind(path)
    check_archive(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as file, h5py.File(file) as weights:
            check_claim(path, _claimed_bytes(weights))
    else:
        with h5py.File(path) as weights:
            check_claim(path, _claimed_bytes(weights))
    with bounded_variables(_VARIABLE_BYTES * os.path.getsize(path) + (1 << 20)):
        yield


def check_map(name, shape, max_values=MAX_MAP_VALUES):
    """Raises ValueError for a tensor with more than `max_values` values; sizes of None count as 1."""
    if math.prod(size for size in shape if size is not None) > max_values:
        raise ValueError(f"{name} has more than {max_values} values per image.")


def check_graph_maps(function, file_bytes):
    """Calls `check_map` for all tensors of known shape in a graph, also in the functions that it calls.

    Args:
        function: tf.ConcreteFunction for a batch of one image.
        file_bytes: int, size of the model's files; a weight may have as many values.
    """
    max_values = MAX_MAP_VALUES + file_bytes
    graph = function.graph.as_graph_def(add_shapes=True)
    bodies = [graph.node, *(body.node_def for body in graph.library.function)]
    for node in itertools.chain.from_iterable(bodies):
        for shape in node.attr["_output_shapes"].list.shape:
            check_map(f"its operation {node.name}", [max(dim.size, 1) for dim in shape.dim], max_values)


def _claimed_bytes(weights):
    sizes = []

    def add(name, item):
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise ValueError(f"its dataset {name} lies in another file.")
            sizes.append(item.size * item.dtype.itemsize)

    weights.visititems(add)
    return sum(sizes)


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
            raise ValueError(f"its networks would take more than the {format_size(limit_bytes)} that its weights do.")
        return next_creator(**arguments)

    with tf.variable_creator_scope(create):
        yield
