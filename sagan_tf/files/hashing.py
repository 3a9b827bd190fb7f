"""SHA-256 of files, folders and memory."""

import hashlib
from pathlib import Path


def sha256(path):
    """Hashes a file, or a folder: the names and contents of all files below it, in the order of their names.

    Args:
        path: Path of the file or folder.

    Returns:
        str, 64 hexadecimal digits.
    """
    path = Path(path)
    if path.is_file():
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return sha256_of_parts(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode() for file in files)


def sha256_of_parts(parts):
    """Hashes bytes or contiguous arrays, one after the other; returns 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
