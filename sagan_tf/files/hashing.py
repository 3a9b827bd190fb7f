"""Hashes of what numbers were made with."""

import hashlib
from pathlib import Path


def sha256(path):
    """Hashes a file, or a folder: the names and contents of all files below it, in the order of their names.

    Args:
        path: Of the file or folder.

    Returns:
        str, hexadecimal.
    """
    path = Path(path)
    if path.is_file():
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    whole = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        whole.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode())
    return whole.hexdigest()
