"""Locks between processes, on files."""

import contextlib
from pathlib import Path

import filelock

from sagan_tf.errors import UserError


@contextlib.contextmanager
def exclusive(path, *, error=None, notice=None, remove=False):
    """Holds a lock file while the block runs.

    Args:
        path: Path of the lock file; its folder exists.
        error: str, the message if another process holds the lock. None: wait for that process.
        notice: str, printed before waiting.
        remove: bool. Remove the lock file at the end.

    Raises:
        UserError: Another process holds the lock, and `error` is given.
    """
    lock = filelock.FileLock(path)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        if error is not None:
            raise UserError(error) from None
        print(notice)
        lock.acquire()
    try:
        yield
    finally:
        if remove:
            Path(path).unlink(missing_ok=True)
        lock.release()
