"""SHA-256 of files, folders and memory; keys of random streams."""

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


def hash_seed(seed, purpose):
    """Hashes a seed, an int of any size, and the name of a stream of random numbers to an int in [0, 2^63)."""
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
