"""Numbered version folders of a served model, each published in one move."""

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from sagan_tf.files.atomic import flush_to_disk

MAX_VERSION = 2**63 - 1  # both protocols of servers have 64 bits


class VersionExistsError(FileExistsError):
    """A version folder of that number exists."""


class NewVersion:
    """A version folder that is being written.

    Attributes:
        path: pathlib.Path to write in.
        final_path: pathlib.Path of the published version, set when it is published.
    """

    final_path: Path

    def __init__(self, path):
        self.path = path


@contextlib.contextmanager
def new_version(directory, version=None):
    """Yields a `NewVersion`, published at the end under a number (None: one above the highest).

    Raises:
        VersionExistsError: The version exists.
        ValueError: `version` is not an integer from 1 to `MAX_VERSION`.
    """
    is_int = isinstance(version, int) and not isinstance(version, bool)
    if version is not None and not (is_int and 1 <= version <= MAX_VERSION):
        raise ValueError(f"`version` must be an integer from 1 to {MAX_VERSION}, or None. Received: {version=}.")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    check_is_new(directory, version)
    # A server that polls `directory` for numbers does not see a name that starts with a dot.
    new = NewVersion(Path(tempfile.mkdtemp(prefix=".new-", dir=directory)))
    try:
        yield new
        _make_readable(new.path)
        flush_to_disk(new.path)
        new.final_path = _publish(new.path, directory, version)
    finally:
        shutil.rmtree(new.path, ignore_errors=True)


def next_version(directory):
    """Returns one above the highest number that servers load among the folders of `directory`, a pathlib.Path."""
    numbers = [int(path.name) for path in directory.iterdir() if re.fullmatch(r"[0-9]{1,19}", path.name)]
    return 1 + max((number for number in numbers if number < MAX_VERSION), default=0)


def check_is_new(directory, version):
    """Raises VersionExistsError if a folder of that version exists; None is always new."""
    if version is not None and (directory / str(version)).exists():
        raise _exists(directory / str(version))


def _publish(path, directory, version):
    while True:
        final_path = directory / str(version or next_version(directory))
        try:
            # Renaming onto a folder with content fails, so two processes never get the same number.
            os.rename(path, final_path)
            return final_path
        except OSError:
            if not final_path.exists():
                raise
            if version is not None:
                raise _exists(final_path) from None


def _exists(path):
    return VersionExistsError(f"{path}: this version exists already.")


def _make_readable(folder):
    # mkdtemp creates folders for the owner alone; a server may run as another user.
    umask = os.umask(0)
    os.umask(umask)
    folder.chmod(0o777 & ~umask)
