"""Remembers which images of a folder can be read, so that a large folder is decoded once and not at every start."""

from __future__ import annotations

import contextlib
import hashlib
import os

import numpy as np
import PIL

from sagan_tf.errors import UserError
from sagan_tf.files.atomic import write_bytes
from sagan_tf.files.cache import user_cache_folder
from sagan_tf.files.hashing import sha256_of_parts
from sagan_tf.files.untrusted import check_kind

_VERSION = f"1 {PIL.__version__}"  # Raise the number when other images are refused.
_MAX_BYTES = 1 << 30
MIN_FILES = 1000  # Fewer are decoded in a second or two.


class CheckedFiles:
    """The files of a folder that were decoded without an error, known by path, size and time, in the user's cache.

    Args:
        folder: Path of the folder.
        split: Its split.
        paths: Paths of its N images.

    Attributes:
        known: bool array (N,), whether each file can be read; to be completed by the caller.
    """

    def __init__(self, folder, split, paths):
        name = sha256_of_parts([os.fsencode(f"{os.path.abspath(folder)}\0{split}")])
        self._keys, self.known = None, np.zeros(len(paths), bool)
        try:
            self._path = user_cache_folder() / "checked_files" / f"{name[:32]}.bin"
        except UserError:  # without a cache, all files are checked again
            return
        if len(paths) >= MIN_FILES:
            self._keys = np.array([_key(path) for path in paths], "<u8")
            self.known = np.isin(self._keys, self._read()) & (self._keys != 0)

    def _read(self):
        """Keys of the last time; none if the file is missing or not a regular file."""
        with contextlib.suppress(OSError, UserError):
            check_kind(self._path)
            if self._path.stat().st_size <= _MAX_BYTES:
                content = self._path.read_bytes()
                return np.frombuffer(content[: len(content) // 8 * 8], "<u8")
        return np.zeros(0, "<u8")

    def save(self):
        """Writes which files are `known`, unless they are few or the cache cannot be written."""
        if self._keys is not None:
            with contextlib.suppress(OSError):
                write_bytes(self._path, self._keys[self.known].tobytes())


def _key(path):
    try:
        status = os.stat(path)
    except OSError:
        return 0  # Of no file; decoding it says why.
    text = f"{_VERSION}\0{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}"
    return int.from_bytes(hashlib.blake2b(os.fsencode(text), digest_size=8).digest(), "little")
