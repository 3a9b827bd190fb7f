"""Tells whether a data set is the one that statistics were computed from, or that a run was trained on."""

from __future__ import annotations

import hashlib
import os

import numpy as np

from sagan_tf.data.readers import ArrayReader, RecordReader
from sagan_tf.errors import list_some

_SAMPLED_FILES = 256  # whose contents are compared, spread over the data set, at least one per class
_SAMPLED_BYTES = 1 << 16  # of each
_DIFFERENCES_SHOWN = 3


def fingerprint(source):
    """Hashes what tells a data set from others; returns hex.

    Of images in memory these are pixels and labels; of the files of a folder names, sizes, times and labels; of records
    names and sizes of their files and which of their records are read.
    """
    reader, digest = source.reader, hashlib.sha256()
    if source.digest is not None:
        digest.update(source.digest.encode())
    elif isinstance(reader, ArrayReader):
        digest.update(np.ascontiguousarray(reader.images).data)
    elif isinstance(reader, RecordReader):
        _hash_files(digest, reader.files, with_times=False)  # Prepared data sets are copied from disk to disk.
        digest.update(np.stack([reader.skips, reader.takes]).astype(np.int64).tobytes())
        return digest.hexdigest()
    else:
        _hash_files(digest, reader.files, with_times=True)  # Images of a folder are edited in place.
    if reader.labels is not None:
        digest.update(np.asarray(reader.labels, np.int32).tobytes())
    return digest.hexdigest()


def _hash_files(digest, files, with_times):
    for file in files:
        status = os.stat(file)
        time = f"\0{status.st_mtime_ns}" if with_times else ""
        digest.update(f"{os.path.basename(file)}\0{status.st_size}{time}\n".encode())


def portable_fingerprint(source):
    """Identifies a data set by what is the same in a copy on another machine; times and paths are not.

    Images of a folder are identified by name, size and, for a sample of them, contents; prepared images by contents
    and labels of all; other data sets by the names and sizes of their files and by their labels.

    Args:
        source: `data.sources.Source`.

    Returns:
        dict of JSON values: `name`, `split`, `num_images`, `class_names` and `class_counts` (None without classes), and
        `hashes`, one of each class for a folder, otherwise one of all.
    """
    names, counts, files = source.class_names, source.class_counts, source.files
    if source.digest is not None:
        hashes = [source.digest]
    elif len(files) == source.num_images:
        # The images of a folder are in the order of their classes.
        ends = [len(files)] if counts is None else np.cumsum(counts).tolist()
        parts = [files[start:end] for start, end in zip([0, *ends], ends)]
        hashes = [_hash_images(part, max(1, _SAMPLED_FILES // len(parts))) for part in parts]
    else:
        digest = hashlib.sha256()
        _hash_files(digest, files, with_times=False)
        if names is not None:
            digest.update(np.asarray(source.reader.labels, np.int32).tobytes())
        hashes = [digest.hexdigest()]
    return {
        "name": source.name,
        "split": source.split,
        "num_images": source.num_images,
        "class_names": None if names is None else list(names),
        "class_counts": None if counts is None else list(counts),
        "hashes": hashes,
    }


def fingerprint_differences(old, new, classes_only=False):
    """Describes how two data sets differ.

    Args:
        old, new: dicts of `portable_fingerprint`; `old` may lack all but `class_names`.
        classes_only: bool. Compare the classes only, as for two splits.

    Returns:
        str, or None if they do not differ.
    """
    lines = _class_differences(old, new)
    if not lines and not classes_only and "hashes" in old:
        lines = _image_differences(old, new)
    return list_some(lines, _DIFFERENCES_SHOWN, "; ") or None


def _class_differences(old, new):
    before, after = old["class_names"], new["class_names"]
    if before == after:
        return []
    if before is None or after is None:
        return [f"{count_in_words(before)} -> {count_in_words(after)}"]
    removed = [name for name in before if name not in after]
    added = [name for name in after if name not in before]
    lines, hashes = [], dict(zip(after, new["hashes"]))
    for name in removed:
        # Classes of the same images; `hashes` of other sources than folders have one entry.
        was = old["hashes"][before.index(name)] if len(old.get("hashes", ())) == len(before) else None
        renamed = next((other for other in added if was is not None and hashes.get(other) == was), None)
        if renamed is not None:
            added.remove(renamed)
        lines.append(f"class `{name}` -> `{renamed}`" if renamed is not None else f"class `{name}` is gone")
    lines += [f"class `{name}` is new" for name in added]
    return lines or ["the classes are in another order"]


def _image_differences(old, new):
    names = new["class_names"]
    titles = ["images"] if names is None else [f"images of class `{name}`" for name in names]
    columns = [[data["num_images"]] if names is None else data["class_counts"] for data in (old, new)]
    lines = [f"{title}: {was:,} -> {now:,}" for title, was, now in zip(titles, *columns) if was != now]
    if len(old["hashes"]) != len(new["hashes"]):
        return lines or ["other files"]
    same_count = [was == now for was, now in zip(*columns)] if len(new["hashes"]) > 1 else [not lines]
    titles = titles if len(new["hashes"]) > 1 else ["images"]
    rows = zip(titles, same_count, old["hashes"], new["hashes"])
    return lines + [f"{title}: other files" for title, same, was, now in rows if same and was != now]


def count_in_words(class_names):
    """Returns `no classes`, or their number in words."""
    return "no classes" if class_names is None else f"{len(class_names)} classes"


def _hash_images(files, num_sampled):
    """Hash of names, sizes, and the contents of some files."""
    digest = hashlib.sha256()
    _hash_files(digest, files, with_times=False)
    for index in np.linspace(0, len(files) - 1, min(num_sampled, len(files))).astype(int):
        with open(files[index], "rb") as file:
            digest.update(file.read(_SAMPLED_BYTES))
    return digest.hexdigest()
