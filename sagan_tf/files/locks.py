"""Locks between processes, on files."""

import contextlib
import errno
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
    except OSError as problem:
        if problem.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise
        raise UserError(
            f"{path}: its disk has no file locks ({problem.strerror}). Choose a folder elsewhere."
        ) from None
    try:
        yield
    finally:
        if remove:
            Path(path).unlink(missing_ok=True)
        lock.release()
