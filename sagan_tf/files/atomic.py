"""Files and folders that appear under their names only when they are complete."""

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path

_TEMPORARY_NAME = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.partial")


@contextlib.contextmanager
def atomic_write(path):
    """Yields a temporary path of the same name; the file replaces `path` at the end, unless the block raises."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A new folder for this user alone: nobody can have put a link there that the writing would follow.
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".partial", dir=path.parent) as folder:
        temporary_path = Path(folder) / path.name
        yield temporary_path
        flush_to_disk(temporary_path)
        os.replace(temporary_path, path)


def write_bytes(path, content):
    """Writes a file with `atomic_write`."""
    with atomic_write(path) as temporary_path:
        temporary_path.write_bytes(content)


def write_text(path, text):
    """Writes a UTF-8 text file with `atomic_write`."""
    write_bytes(path, text.encode("utf-8"))


@contextlib.contextmanager
def atomic_folder(path):
    """Yields an empty temporary folder, which replaces `path` at the end, unless the block raises."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as temporary:
        new_path, old_path = Path(temporary) / "new", Path(temporary) / "old"
        new_path.mkdir()
        yield new_path
        flush_to_disk(new_path)
        if path.exists():
            os.rename(path, old_path)
        os.rename(new_path, path)


def flush_to_disk(path):
    """Waits until a file, or a folder with all that is in it, is on the disk."""
    for part in (path, *path.rglob("*")):
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_temporary(name):
    """Returns whether a name is that of a temporary folder of `atomic_write`."""
    return _TEMPORARY_NAME.fullmatch(name) is not None


def remove_temporary_files(folder, names=None):
    """Removes what killed processes left of files `names` (None: all); no process may be writing them now."""
    for path in folder.glob(".*.partial"):
        match = _TEMPORARY_NAME.fullmatch(path.name)
        if match and (names is None or match[1] in names):
            shutil.rmtree(path, ignore_errors=True)
