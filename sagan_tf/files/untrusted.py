"""What a file may claim to hold: bounds on memory, checked before anything of that size is made.

Weights hardly compress, so a file that says it unpacks to many times its size is refused: reading takes at most
`FLOOR_BYTES` and `EXPANSION` times the size of the file.
"""

import contextlib
import math
import os
import zipfile

import tensorflow as tf

FLOOR_BYTES = 1 << 28  # 256 MiB, which any machine that runs TensorFlow has to spare
EXPANSION = 20


def check_archive(path):
    """Refuses a ZIP file that unpacks to far more than its size; says nothing of other files.

    Args:
        path: Of the file.

    Raises:
        ValueError: It is a decompression bomb.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            # Python's reader stops at the size that is declared.
            check_claim(path, sum(member.file_size for member in archive.infolist()))


def check_claim(path, claimed_bytes):
    """Refuses a file that claims to hold far more than its size.

    Args:
        path: Of the file.
        claimed_bytes: int.

    Raises:
        ValueError: It claims too much.
    """
    size = os.path.getsize(path)
    if claimed_bytes > FLOOR_BYTES + EXPANSION * size:
        raise ValueError(f"it claims to unpack to {_mib(claimed_bytes)}, and is {_mib(size)} long.")


@contextlib.contextmanager
def bounded_variables(limit_bytes):
    """Refuses variables, of networks made inside, that are larger than what is to be read into them.

    Args:
        limit_bytes: int, of all together.

    Raises:
        ValueError: They are larger. The one that would pass the limit was not made.
    """
    left = limit_bytes

    def create(next_creator, **arguments):
        nonlocal left
        value = arguments["initial_value"]
        with tf.Graph().as_default():  # where an initialiser has a shape and takes no memory
            spec = value() if callable(value) else tf.convert_to_tensor(value)
        left -= spec.dtype.size * math.prod(spec.shape)
        if left < 0:
            raise ValueError(f"its networks would take more than the {_mib(limit_bytes)} that its weights do.")
        return next_creator(**arguments)

    with tf.variable_creator_scope(create):
        yield


def _mib(size):
    return f"{size / 2**20:.1f} MiB"
