"""Locks between processes, on files."""

import contextlib
from pathlib import Path

import filelock

from sagan_tf.errors import UserError


@contextlib.contextmanager
def exclusive(path, *, error=None, notice=None, remove=False):
    """Holds a lock file; if another process does, raises `UserError(error)`, or prints `notice` and waits."""
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
