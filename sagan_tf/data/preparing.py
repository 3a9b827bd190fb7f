"""Decodes, crops and resizes the images of a data set once, into the files that `prepared` describes.

A shard gets its name when it is complete. Until all shards are written, a record beside each says what it was made
from. Interrupted work resumes at the first missing shard. A shard is rewritten if its images changed, or if images
that were unreadable can be read now. In a complete folder, lost and damaged shards are rewritten if the images are
still the same.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
import json
import math
import os
import shutil
import zlib

import numpy as np
import tensorflow as tf

from sagan_tf.data import embedded
from sagan_tf.data.folders import list_images, unreadable_error, without_unreadable_classes
from sagan_tf.data.image_files import UNREADABLE, load_image, reason_in_one_line
from sagan_tf.data.prepared import (
    ADVICE,
    FORMAT,
    INDEX,
    INDEX_DTYPE,
    MANIFEST,
    is_prepared,
    read_index,
    read_manifest,
    shard_name,
    split_folder,
)
from sagan_tf.data.sources import open_reader
from sagan_tf.data.threads import NUM_THREADS, TOGETHER, in_order
from sagan_tf.errors import UserError, check_utf8, format_image_size, format_size, list_some
from sagan_tf.files.atomic import atomic_write, remove_temporary_files, write_bytes, write_text
from sagan_tf.files.hashing import sha256, sha256_of_parts
from sagan_tf.files.locks import exclusive
from sagan_tf.files.untrusted import read_json
from sagan_tf.utils.progress import progress_bar

_SHARD_BYTES, _SHARD_IMAGES = 1 << 27, 2048  # At most, before encoding; what a kill may cost.


class _OtherImagesError(Exception):
    """A shard would have another content than before."""


def prepare(options, folder, encoding="raw", quality=None, show_progress=True):
    """Writes the images of one split, or continues to; of a complete folder, only its lost and damaged shards.

    Args:
        options: `DataOptions` of the source.
        folder: Path of the folder to write, of all splits.
        encoding: `raw` (pixels), `png`, or `jpeg`; the first two are lossless.
        quality: int, 1 to 100, of JPEG, whose colors are not subsampled; None for the others.
        show_progress: bool. Draw progress bars.

    Returns:
        (dict of `prepared.read_manifest`; int, how many lost or damaged shards of a complete folder were written again,
        None if it was not complete).

    Raises:
        UserError: The source cannot be opened, some of its images are unreadable and `options.corrupt` is `stop`, or
            the folder holds something else; a damaged shard cannot be written again.
    """
    path, about = split_folder(folder, options.split), _describe(options, encoding, quality)
    if not is_prepared_or_free(folder):
        raise UserError(f"{folder}: is not empty. Name a new folder with --out.")
    encode = functools.partial(_encode, encoding=encoding, quality=quality)
    manifest = _read_complete(path, about)
    if manifest is not None and not (damaged := _find_damaged(path, manifest["shards"], show_progress)):
        read_index(path, manifest)
        return manifest, 0
    source = _open(options) if manifest is None else _open_again(options, path, damaged)
    path.mkdir(parents=True, exist_ok=True)
    with exclusive(path / ".lock", error=f"{path}: another process is preparing it.", remove=True):
        remove_temporary_files(path)
        if (manifest := _read_complete(path, about)) is not None:  # Another process may have begun or finished since.
            return manifest, _repair(source, path, options, manifest, encode, show_progress)
        write_text(path / MANIFEST, _to_json({"format": FORMAT, "options": about}))
        shards = _write_missing(source, path, options, encode, show_progress)
        return _finish(source, path, options, about, shards, show_progress), None


def is_prepared_or_free(folder):
    """Returns whether a folder is of `sagan prepare`, or holds no files but hidden ones, or does not exist."""
    if os.path.isdir(folder) and is_prepared(folder):
        return True
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if any(not name.startswith(".") for name in names):
            return False
    return True


def _describe(options, encoding, quality):
    """What the contents of a folder depend on besides the images."""
    is_folder = options.name not in embedded.NAMES and os.path.isdir(options.name)
    source = os.path.abspath(options.name) if is_folder else options.name
    check_utf8(options.name, source)
    height, width, channels = options.image_shape
    return {"source": source, "split": options.split, "image_size": height if height == width else [height, width],
            "image_channels": channels, "resize": options.resize, "encoding": encoding, "quality": quality}  # fmt: skip


def _read_complete(path, new):
    """Reads the manifest of a complete folder; None of another. One of other options is refused if it has a shard."""
    manifest = read_manifest(path)
    if manifest is None or ("shards" not in manifest and not any(path.glob("shard_*.bin"))):
        return None
    old = manifest["options"]
    changes = [
        f"{name} {_option_text(old.get(name))}, not {_option_text(new[name])}"
        for name in new
        if old.get(name) != new[name]
    ]
    if changes:
        raise UserError(f"{path}: was prepared with {'; '.join(changes)}. Name another folder with --out.")
    return manifest if "shards" in manifest else None


def _option_text(value):
    return format_image_size(value) if isinstance(value, list) else value


def _to_json(value):
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


@dataclasses.dataclass
class _Folder:
    """The images of a folder, in the order of their classes and names."""

    folder: str
    options: object

    def __post_init__(self):
        paths, labels, self.class_names, self.skipped = list_images(self.folder, self.options.split)
        self.paths, self.count = paths, len(paths)
        self.labels = np.full(len(paths), -1) if labels is None else np.asarray(labels)

    def used_classes(self, readable_labels):
        """Returns labels and class names without the classes of which no image can be read, and those as skipped."""
        if self.class_names is None:
            return readable_labels, None, []
        return without_unreadable_classes(readable_labels, self.labels, self.class_names, self.paths)

    def identity(self, first, last):
        """Hash of names, sizes, times and labels of some images."""
        digest = hashlib.sha256()
        for path, label in zip(self.paths[first:last], self.labels[first:last]):
            status = os.stat(path)
            name = os.path.relpath(path, self.folder)
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0{label}\n".encode())
        return digest.hexdigest()

    def batches(self, first, last):
        """Yields functions that return an iterator of up to `TOGETHER` images, uint8 (H, W, C) or (path, reason)."""
        for start in range(first, last, TOGETHER):
            yield functools.partial(map, self.load_one, self.paths[start : min(start + TOGETHER, last)])

    def load_one(self, path):
        """Returns uint8 (H, W, C), or (path, reason)."""
        options = self.options
        try:
            return load_image(path, options.image_shape, options.resize)
        except UNREADABLE as error:
            return path, reason_in_one_line(error)


class _Records:
    """The images of any other source, in the order of its records."""

    def __init__(self, options):
        options = dataclasses.replace(options, memory_limit_gib=0.0, conditional=None)
        self._reader, self.class_names, files, self.skipped, digest = open_reader(options, show_progress=False)
        self.count, self.labels = self._reader.num_images, self._reader.labels
        if self.labels is None:
            self.labels = np.full(self.count, -1)
        self._files = [digest, *((os.path.basename(file), os.path.getsize(file)) for file in files)]

    def used_classes(self, readable_labels):
        return readable_labels, self.class_names, []

    def identity(self, first, last):
        return sha256_of_parts([json.dumps([self._files, first, last]).encode(), self.labels[first:last].astype("<i4")])

    def batches(self, first, last):
        batches = self._reader.in_order_batches(TOGETHER, first)
        for images, *_ in itertools.islice(batches, -(-(last - first) // TOGETHER)):
            yield functools.partial(iter, images)


def _open(options):
    if options.name not in embedded.NAMES and os.path.isdir(options.name) and not is_prepared(options.name):
        return _Folder(options.name, options)
    return _Records(options)


def _encode(image, encoding, quality):
    if encoding == "raw":
        return image.tobytes()
    if encoding == "png":
        return tf.io.encode_png(image).numpy()
    return tf.io.encode_jpeg(image, quality=quality, optimize_size=True, chroma_downsampling=False).numpy()


def _shard_ranges(count, options):
    """Returns (first, last + 1) of the images of each shard."""
    fitting = _SHARD_BYTES // math.prod(options.image_shape)
    length = max(min(fitting, _SHARD_IMAGES) // TOGETHER, 1) * TOGETHER
    return [(first, min(first + length, count)) for first in range(0, count, length)]


def _write_missing(source, path, options, encode, show_progress):
    """Writes the shards that are missing or of changed images; returns the records of all."""
    ranges = _shard_ranges(source.count, options)
    shards = [_read_record(path, number, source, *ends) for number, ends in enumerate(ranges)]
    missing = [number for number, shard in enumerate(shards) if shard is None]
    for number, shard in _write_shards(source, path, options, missing, encode, show_progress):
        write_text(_record_path(path, number), json.dumps(shard))
        shards[number] = shard
    return shards


def _open_again(options, path, damaged):
    """Opens the source of a complete folder."""
    try:
        return _open(options)
    except UserError as error:
        name = path / shard_name(damaged[0])
        raise UserError(f"{name}: is lost or damaged, and cannot be written again: {error}") from None


def _repair(source, path, options, manifest, encode, show_progress):
    """Writes the lost and damaged shards of a complete folder again, by the same bytes; returns how many."""
    shards = manifest["shards"]
    error = f"{path}: has lost or damaged shards, and the source has changed since. {ADVICE.format(path)}"
    damaged = _find_damaged(path, shards, show_progress)
    if damaged and len(shards) != len(_shard_ranges(source.count, options)):
        raise UserError(error)
    wanted = {number: shards[number]["sha256"] for number in damaged}
    try:
        collections.deque(_write_shards(source, path, options, damaged, encode, show_progress, wanted), maxlen=0)
    except _OtherImagesError:
        raise UserError(error) from None
    read_index(path, manifest)
    return len(damaged)


def _write_shards(source, path, options, numbers, encode, show_progress, wanted=None):
    """Writes shards; yields the number and the record of each. `wanted`: number -> SHA-256 that it must have."""
    ranges = _shard_ranges(source.count, options)
    num_missing = sum(ranges[number][1] - ranges[number][0] for number in numbers)
    needed, free = num_missing * math.prod(options.image_shape), shutil.disk_usage(path).free
    if encode.keywords["encoding"] == "raw" and needed > free:
        raise UserError(f"{path}: {format_size(needed)} are needed and {format_size(free)} free. Choose another disk.")
    settings = {"desc": f"preparing {path}", "unit": "img", "disable": not show_progress}
    bar = progress_bar(total=source.count, initial=source.count - num_missing, **settings)
    with bar, _encoded_batches(source, [ranges[number] for number in numbers], encode) as batches:
        for number in numbers:
            first, last = ranges[number]
            parts = itertools.islice(batches, -(-(last - first) // TOGETHER))
            images = _advancing(bar, parts)
            yield number, _write_shard(path, number, source, first, last, images, (wanted or {}).get(number))


def _advancing(bar, batches):
    for batch in batches:
        bar.update(len(batch))
        yield from batch


def _encoded_batches(source, ranges, encode):
    """As a context manager, yields an iterator of the batches, each a list of bytes or (path, reason)."""

    def work(load):
        return (item if isinstance(item, tuple) else encode(item) for item in load())

    loads = itertools.chain.from_iterable(source.batches(*ends) for ends in _merged(ranges))
    return in_order(functools.partial(work, load) for load in loads)


def _merged(ranges):
    """Yields the ranges with neighbors joined."""
    current = None
    for first, last in ranges:
        if current is not None and current[1] == first:
            current = current[0], last
            continue
        if current is not None:
            yield current
        current = first, last
    if current is not None:
        yield current


def _write_shard(path, number, source, first, last, images, wanted=None):
    """Writes a shard, unless its SHA-256 is not the wanted one; returns its record."""
    rows, unreadable, digest, size = [], [], hashlib.sha256(), 0
    identity = source.identity(first, last)  # before the images are read
    with atomic_write(path / shard_name(number)) as temporary_path, open(temporary_path, "wb") as file:
        for label, image in zip(source.labels[first:last], images):
            if isinstance(image, tuple):
                unreadable.append(image)
                continue
            file.write(image)
            digest.update(image)
            size += len(image)
            rows.append((label, len(image), zlib.crc32(image)))
        if wanted not in (None, digest.hexdigest()):
            raise _OtherImagesError
    index = np.array(rows, INDEX_DTYPE).tobytes()
    return {"source": identity, "images": len(rows), "bytes": size, "sha256": digest.hexdigest(),
            "index": index.hex(), "unreadable": unreadable}  # fmt: skip


def _record_path(path, number):
    return path / f"{shard_name(number)}.json"


def _read_record(path, number, source, first, last):
    """Reads the record of a shard that was written from the same images; None if there is none, or it is damaged."""
    record = _record_path(path, number)
    if not record.exists():
        return None
    shard, file = read_json(record), path / shard_name(number)
    if not _is_record(shard) or shard["source"] != source.identity(first, last) or not file.exists():
        return None
    if shard["images"] + len(shard["unreadable"]) != last - first:
        return None
    for image, _ in shard["unreadable"]:
        # The cause may be gone without a change of the file: a fault of the disk, a missing permission. A relative path
        # may be of another working directory.
        if not os.path.exists(image) or not isinstance(source.load_one(image), tuple):
            return None
    return shard if file.stat().st_size == shard["bytes"] else None


def _is_record(shard):
    """Whether JSON is a record with all its values, which fit its index."""
    try:
        index = np.frombuffer(bytes.fromhex(shard["index"]), INDEX_DTYPE)
        pairs = [(image, reason) for image, reason in shard["unreadable"]]
        texts = [shard["source"], shard["sha256"], *itertools.chain(*pairs)]
        is_fitting = (len(index), index["bytes"].sum()) == (shard["images"], shard["bytes"])
    except (KeyError, TypeError, ValueError):
        return False
    return is_fitting and all(isinstance(text, str) for text in texts)


def _finish(source, path, options, about, shards, show_progress):
    """Reads all shards again, and writes index and manifest."""
    unreadable = [tuple(pair) for shard in shards for pair in shard["unreadable"]]
    num_images = sum(shard["images"] for shard in shards)
    if unreadable and (options.corrupt == "stop" or not num_images):
        hint = "Repair or remove them, or add --corrupt skip, and run the command again; it continues."
        raise unreadable_error(options.name, unreadable, source.count, hint)
    if not num_images:
        raise UserError(f"data set `{options.name}`, split `{options.split}`: contains no images.")
    if damaged := _find_damaged(path, shards, show_progress):
        for number in damaged:
            _record_path(path, number).unlink()
        names = list_some([shard_name(number) for number in damaged], 3)
        raise UserError(f"{path}: shards differ from what was written: {names}. Run the same command again.")
    index = np.frombuffer(b"".join(bytes.fromhex(shard["index"]) for shard in shards), INDEX_DTYPE).copy()
    index["label"], names, classes = source.used_classes(index["label"])
    write_bytes(path / INDEX, index.tobytes())
    manifest = {
        "format": FORMAT, "options": about, "num_images": num_images,
        "class_names": names and list(names), "skipped": [*source.skipped, *unreadable, *classes],
        "index_sha256": sha256_of_parts([index.tobytes()]),
        "shards": [{key: shard[key] for key in ("images", "bytes", "sha256")} for shard in shards],
    }  # fmt: skip
    write_text(path / MANIFEST, _to_json(manifest))
    names = {shard_name(number) for number in range(len(shards))}
    for file in path.glob("shard_*"):
        if file.name not in names:
            file.unlink()
    return manifest


def _find_damaged(path, shards, show_progress):
    """Lists the numbers of the shards that are lost or have another SHA-256."""
    paths = [path / shard_name(number) for number in range(len(shards))]
    settings = {"desc": f"checking {path}", "unit": "shard", "disable": not show_progress}
    with concurrent.futures.ThreadPoolExecutor(NUM_THREADS) as threads:
        hashes = threads.map(lambda file: sha256(file) if file.is_file() else None, paths)
        actual = list(progress_bar(hashes, total=len(paths), **settings))
    return [number for number, shard in enumerate(shards) if actual[number] != shard["sha256"]]
