"""Files and folders that appear under their names only when they are complete."""

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path


@contextlib.contextmanager
def new_file(path):
    """Writes a file beside its place, and moves it there at the end.

    Args:
        path: Of the file; its folder is made. A file that is there already is replaced.

    Yields:
        pathlib.Path to write to, in the same folder and with the same suffix.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield beside
        _to_disk(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path, mark):
    """Writes a folder beside its place, and moves it there at the end in place of an older one.

    Args:
        path: Of the folder; its parent is made.
        mark: str, name of a file in every such folder. What lacks it is not ours to replace.

    Yields:
        pathlib.Path to write in.

    Raises:
        FileExistsError: Something else lies there.
    """
    path = Path(path)
    if path.exists() and not (path / mark).is_file() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"{path}: something else lies there. Move it away, or choose another folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        new.mkdir()
        yield new
        for file in new.rglob("*"):
            _to_disk(file)
        if path.exists():
            os.rename(path, old)
        os.rename(new, path)


@contextlib.contextmanager
def new_version(directory, version=None):
    """Writes a numbered folder beside its place, and moves it there at the end.

    A server that polls `directory` for numbers, as TensorFlow Serving does, sees nothing until then: what is being
    written starts with a dot.

    Args:
        directory: Folder of the versions; made if it is not there.
        version: int >= 1, or None for one above the highest that is there.

    Yields:
        `NewVersion`: `path` to write in; `final_path` once it is published.

    Raises:
        FileExistsError: The version is there already.
        ValueError: `version` is no integer >= 1.
    """
    if version is not None and (not isinstance(version, int) or isinstance(version, bool) or version < 1):
        raise ValueError(f"`version` must be an integer >= 1, or None. Received: {version=}.")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if version is not None and (directory / str(version)).exists():
        raise FileExistsError(f"{directory / str(version)}: this version is there already.")
    new = NewVersion(Path(tempfile.mkdtemp(prefix=".new-", dir=directory)))
    try:
        yield new
        _readable(new.path)
        for path in new.path.rglob("*"):
            _to_disk(path)
        new.final_path = _publish(new.path, directory, version)
    finally:
        shutil.rmtree(new.path, ignore_errors=True)


class NewVersion:
    """A folder on its way.

    Attributes:
        path: pathlib.Path to write in.
        final_path: pathlib.Path where it stands in the end; None before.
    """

    def __init__(self, path):
        self.path = path
        self.final_path = None


def next_version(directory):
    """One above the highest number among the folders of `directory`.

    Args:
        directory: pathlib.Path.

    Returns:
        int >= 1.
    """
    return 1 + max((int(path.name) for path in directory.iterdir() if re.fullmatch(r"[0-9]+", path.name)), default=0)


def _publish(path, directory, version):
    while True:
        final = directory / str(version or next_version(directory))
        try:
            # Onto a folder that holds something this fails, so that two processes never get the same number.
            os.rename(path, final)
            return final
        except OSError:
            if not final.exists():
                raise
            if version is not None:
                raise FileExistsError(f"{final}: this version is there already.") from None


def _readable(folder):
    # mkdtemp is for the owner alone; a server runs as somebody else.
    umask = os.umask(0)
    os.umask(umask)
    folder.chmod(0o777 & ~umask)


def _to_disk(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
