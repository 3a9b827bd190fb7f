"""Files and folders that appear under their names only when they are complete."""

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from sagan_tf.errors import UserError

_READS = 5
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


def read_unreplaced(path, read):
    """Returns what a function reads that opens a file of `atomic_write` several times, from one state of the file.

    Args:
        path: Path of the file.
        read: Function without arguments; it is called again if the file was replaced meanwhile.

    Returns:
        The result of `read`.

    Raises:
        UserError: The file was replaced during every call.
    """
    for _ in range(_READS):
        before = _identity(path)
        result = read()
        if _identity(path) == before:
            return result
    raise UserError(
        f"{path}: another process replaces the file faster than it can be read. Try again when it has ended."
    )


def _identity(path):
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


@contextlib.contextmanager
def atomic_folder(path):
    """Yields an empty temporary folder, which replaces `path`, or what a link there names, unless the block raises."""
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as temporary:
        new_path, old_path = Path(temporary) / "new", Path(temporary) / "old"
        new_path.mkdir()
        yield new_path
        flush_to_disk(new_path)
        try:
            if path.exists():
                os.rename(path, old_path)
            os.rename(new_path, path)
        except BaseException:  # Ctrl-C between the two, too: the end of this block removes what is at `old_path`
            if old_path.exists() and not path.exists():
                os.rename(old_path, path)
            raise


@contextlib.contextmanager
def new_contents(folder, last):
    """Yields a folder whose entries move into a new or empty one at the end, unless the block raises.

    Unlike `atomic_folder` it keeps the folder, which may be the current one or a mount point. The entry `last` is moved
    last.
    """
    is_new = not os.path.lexists(folder)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".", suffix=".partial", dir=folder) as temporary:
            yield Path(temporary)
            flush_to_disk(Path(temporary))
            for path in sorted(Path(temporary).iterdir(), key=lambda path: path.name == last):
                os.rename(path, folder / path.name)
    except BaseException:
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def carry_over(path, target):
    """Makes what is at `path`, a file, a link or a folder, appear at `target` too, without a second copy if possible.

    For what `atomic_folder` keeps of an older folder, which stays complete until it is replaced.
    """
    if path.is_dir() and not path.is_symlink():
        target.mkdir()
        for entry in path.iterdir():
            carry_over(entry, target / entry.name)
        shutil.copystat(path, target)
        return
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError:  # no hard links on this file system, or not of this file
        shutil.copy2(path, target, follow_symlinks=False)


def flush_to_disk(path):
    """Waits until a file, or a folder with all that is in it, is on the disk."""
    for part in (path, *path.rglob("*")):
        if part.is_symlink() or not (part.is_file() or part.is_dir()):
            continue  # such as what a user has put into a folder
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
