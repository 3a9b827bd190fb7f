"""SHA-256 of files, folders and memory."""

import hashlib
from pathlib import Path


def sha256(path):
    """Returns the hexadecimal SHA-256 of a file, or of the names and contents of all files below a folder."""
    path = Path(path)
    if path.is_file():
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return sha256_of_parts(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode() for file in files)


def sha256_of_parts(parts):
    """Returns the hexadecimal SHA-256 of bytes or contiguous arrays, one after the other."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
