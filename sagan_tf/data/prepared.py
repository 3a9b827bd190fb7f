"""Images that `sagan prepare` has decoded, cropped and resized: their files, and reading them by index.

FOLDER/SPLIT/ holds shards, files of encoded images one after the other, `index.bin`, an `INDEX_DTYPE` per image,
and `prepared.json`: options, class names, and the number, size and SHA-256 of each file. Without its "shards" the
folder is not complete. Contents depend on images and options only, not on time or machine.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import zlib
from pathlib import Path

import numpy as np
import tensorflow as tf

from sagan_tf.data.readers import PREPARE_AGAIN, DamagedImageError, IndexedReader, read_into_memory
from sagan_tf.errors import UserError, format_image_size
from sagan_tf.files.hashing import sha256_of_parts
from sagan_tf.files.untrusted import check_kind, read_json

FORMAT = "sagan_tf prepared pictures, version 1"
MANIFEST, INDEX = "prepared.json", "index.bin"
INDEX_DTYPE = np.dtype([("label", "<i4"), ("bytes", "<u4"), ("crc32", "<u4")])
ENCODINGS = ("raw", "png", "jpeg")
MAX_SIZE = 1024  # px
ADVICE = "Remove {} and prepare it again, or copy it again."
_MAX_IMAGES = 1 << 27


def split_folder(folder, split):
    """Returns the path of the files of a split; a slice such as `train[:90%]` has characters that no file needs."""
    return Path(folder) / re.sub(r"[^\w.-]", "_", split)


def shard_name(number):
    """The name of the file of shard `number`, counted from 0."""
    return f"shard_{number:05}.bin"


def shard_files(folder, manifest):
    """Paths of the shards, a tuple of str."""
    return tuple(str(folder / shard_name(number)) for number in range(len(manifest["shards"])))


def is_prepared(folder):
    """Returns whether a folder holds what `sagan prepare` writes, complete or not."""
    return bool(_prepared_splits(folder))


def _prepared_splits(folder):
    """Names of the folders of splits, sorted."""
    with os.scandir(folder) as entries:
        # Of a flat folder of a million images, none is looked up.
        names = [entry.name for entry in entries if not entry.is_file(follow_symlinks=False)]
    return sorted(name for name in names if os.path.lexists(os.path.join(folder, name, MANIFEST)))


def read_manifest(folder):
    """Reads what the folder of a split says about itself.

    Returns:
        dict of JSON values with "options", a dict, and if it is complete "num_images", "class_names" (None without),
        "index_sha256" and "shards", a list of dicts of "images", "bytes" and "sha256"; None without a manifest.

    Raises:
        UserError: The manifest is damaged or of another version.
    """
    path = Path(folder) / MANIFEST
    if not os.path.lexists(path):
        return None
    manifest, advice = read_json(path), f"Remove {folder} and prepare the data again."
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{path}: is damaged, or of another version of sagan_tf. {advice}")
    if not _is_valid(manifest):
        raise UserError(f"{path}: is damaged. {advice}")
    return manifest


def prepared_shape(options):
    """(height, width, channels) of the images, from the "options" of a manifest."""
    size = options["image_size"]
    height, width = size if isinstance(size, list) else (size, size)
    return height, width, options["image_channels"]


def _is_valid(manifest):
    """Whether all values have the right type and range."""
    options = manifest.get("options")
    if not isinstance(options, dict) or options.get("encoding") not in ENCODINGS:
        return False
    size = options.get("image_size")
    sides = [size] if not isinstance(size, list) else size if len(size) == 2 else []
    if options.get("image_channels") not in (1, 3) or not sides or not all(_is_count(n, 1, MAX_SIZE) for n in sides):
        return False
    if "shards" not in manifest:
        return True
    names, shards = manifest.get("class_names"), manifest["shards"]
    if names is not None and not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        return False
    if not isinstance(shards, list) or not all(isinstance(shard, dict) for shard in shards):
        return False
    counts = [[shard.get(key) for shard in shards] for key in ("images", "bytes")]
    if not all(_is_count(count, 0, 2**62) for column in counts for count in column):
        return False
    hashes = [manifest.get("index_sha256"), *(shard.get("sha256") for shard in shards)]
    num_images = manifest.get("num_images")
    return (
        all(isinstance(text, str) for text in hashes)
        and _is_count(num_images, 1, _MAX_IMAGES)
        and sum(counts[0]) == num_images
    )


def _is_count(value, low, high):
    return type(value) is int and low <= value <= high


def open_prepared(options, show_progress):
    """Reads the index, and the images if they fit in memory.

    Returns:
        (reader, class names or None, paths of the shards, hexadecimal SHA-256 of images and labels in their order).

    Raises:
        UserError: The split is missing, incomplete or damaged, or was prepared with other options.
    """
    folder = split_folder(options.name, options.split)
    manifest = read_manifest(folder)
    if manifest is None:
        splits = ", ".join(_prepared_splits(options.name))
        raise UserError(f"{options.name}: has no split `{options.split}`. Choose from {splits}.")
    if "shards" not in manifest:
        raise UserError(f"{folder}: is not complete. Run the same `sagan prepare` command again.")
    _check_options(folder, options, manifest["options"])
    files = shard_files(folder, manifest)
    index = read_index(folder, manifest)
    class_names = manifest["class_names"]
    labels = None if class_names is None else np.ascontiguousarray(index["label"])
    reader = _make_reader(files, index, labels, manifest)
    reader = read_into_memory(reader, options, show_progress)
    return reader, None if class_names is None else tuple(class_names), files, _digest(manifest)


def _check_options(folder, options, prepared):
    """Raises UserError if the images were prepared with other options than those of a `DataOptions`."""
    (*size, channels), (*wanted_size, wanted_channels) = prepared_shape(prepared), options.image_shape
    if size != wanted_size:
        names = ("image_size",) if size[0] == size[1] else ("image_height", "image_width")
        advice = " and ".join(f"data.{name} to {side}" for name, side in zip(names, size))
        difference = f"image_size {format_image_size(size)}, not {format_image_size(wanted_size)}"
    elif channels != wanted_channels:
        advice, difference = f"data.image_channels to {channels}", f"image_channels {channels}, not {wanted_channels}"
    elif prepared.get("resize") != options.resize:
        resize = prepared.get("resize")
        advice, difference = f"data.resize to {resize}", f"resize {resize}, not {options.resize}"
    else:
        return
    raise UserError(f"{folder}: was prepared with {difference}. Set {advice}, or prepare the data again.")


def _digest(manifest):
    hashes = [manifest["index_sha256"], *(shard["sha256"] for shard in manifest["shards"])]
    return sha256_of_parts(["\n".join(hashes).encode()])


def read_index(folder, manifest):
    """Reads the index; its size and that of the shards are checked before it takes memory.

    Args:
        folder: pathlib.Path of the split.
        manifest: dict of `read_manifest`, complete.

    Returns:
        (N,) array of `INDEX_DTYPE`.

    Raises:
        UserError: Index or a shard is missing or has another size, or the index is damaged.
    """
    advice = f"It is damaged, or the copy is not complete. {ADVICE.format(folder)}"
    files = shard_files(folder, manifest)
    path = folder / INDEX
    sizes = {str(path): manifest["num_images"] * INDEX_DTYPE.itemsize}
    sizes |= {file: shard["bytes"] for file, shard in zip(files, manifest["shards"])}
    for file, size in sizes.items():
        check_kind(file)
        try:
            actual = os.path.getsize(file)
        except OSError as error:
            raise UserError(f"{file}: cannot be read: {error.strerror}. {advice}") from None
        if actual != size:
            raise UserError(f"{file}: has {actual:,} of {size:,} bytes. {advice}")
    content = path.read_bytes()
    if sha256_of_parts([content]) != manifest["index_sha256"]:
        raise UserError(f"{path}: its SHA-256 is not that of {MANIFEST}. {advice}")
    index = np.frombuffer(content, INDEX_DTYPE)
    if not _fits(index["bytes"], manifest):
        raise UserError(f"{path}: its images are not those of the shards. {advice}")
    return index


def _fits(lengths, manifest):
    """Whether the images have lengths of their encoding, which add up to the sizes of the shards."""
    options = manifest["options"]
    pixels = math.prod(prepared_shape(options))
    low, high = (pixels, pixels) if options["encoding"] == "raw" else (1, 2 * pixels + 4096)
    ends = np.cumsum([0, *(shard["images"] for shard in manifest["shards"])])
    sizes = np.diff(np.append(0, np.cumsum(lengths, dtype=np.int64))[ends])
    return low <= lengths.min() <= lengths.max() <= high and sizes.tolist() == [s["bytes"] for s in manifest["shards"]]


@dataclasses.dataclass(frozen=True)
class PreparedReader(IndexedReader):
    """Reads prepared images by index.

    Args:
        fetch, decode, labels: As `IndexedReader`.
        files: Paths of the shards.
        count: int, N.
    """

    count: int

    @property
    def num_images(self):
        return self.count


def _make_reader(files, index, labels, manifest):
    options, counts = manifest["options"], [shard["images"] for shard in manifest["shards"]]
    shape = prepared_shape(options)
    shards = _Shards(files, index, counts)
    decode = None if options["encoding"] == "raw" else _make_decoder(options["encoding"], shape)

    def fetch(indices):
        if decode is None:
            pixels = tf.ensure_shape(tf.numpy_function(shards.read_equal, [indices], tf.uint8), [None, None])
            return tf.reshape(pixels, (-1, *shape))
        encoded = tf.ensure_shape(tf.numpy_function(shards.read, [indices], tf.string), [None])
        # One after the other: batches are decoded in parallel, and a task for each image costs as much as decoding.
        return tf.map_fn(decode, encoded, fn_output_signature=tf.TensorSpec(shape, tf.uint8), parallel_iterations=1)

    return PreparedReader(fetch, None, labels, files, len(index))


class _Shards:
    """Reads the bytes of images by their numbers, and checks them."""

    def __init__(self, files, index, counts):
        self._files, self._index = files, index
        self._firsts = np.cumsum([0, *counts])
        ends = np.cumsum(index["bytes"], dtype=np.int64)
        starts = ends - index["bytes"]
        self._starts = starts - np.repeat(np.append(starts, 0)[self._firsts[:-1]], counts)

    def read_equal(self, indices):
        """Returns uint8 (B, bytes of each of the images)."""
        content = np.empty((len(indices), self._index["bytes"][0]), np.uint8)
        self._read_into(content, indices)
        return content

    def read(self, indices):
        """Returns an array of B bytes objects."""
        content = [bytearray(length) for length in self._index["bytes"][indices].tolist()]
        self._read_into(content, indices)
        return np.array([bytes(buffer) for buffer in content], object)

    def _read_into(self, buffers, indices):
        numbers = np.searchsorted(self._firsts, indices, side="right") - 1
        places = zip(numbers.tolist(), self._starts[indices].tolist(), self._index["crc32"][indices].tolist())
        for buffer, index, (number, start, checksum) in zip(buffers, indices, places):
            path = self._files[number]
            try:
                with open(path, "rb", buffering=0) as file:
                    file.seek(start)
                    file.readinto(buffer)
            except OSError as error:
                raise DamagedImageError(f"{path}: cannot be read: {error.strerror}.") from None
            if zlib.crc32(buffer) != checksum:
                image = index - self._firsts[number]
                raise DamagedImageError(f"{path}: image {image} is damaged: its checksum is wrong. {PREPARE_AGAIN}")


def _make_decoder(encoding, shape):
    """Decodes a PNG or JPEG of a shape; a header that claims another size is rejected before it takes memory."""
    (height, width, channels), reason = shape, "an image is of another size."

    def decode(encoded):
        if encoding == "png":
            # Signature, length and type of the first chunk, width, height, bits and color type.
            header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big")
            header += b"\x08\x00" if channels == 1 else b"\x08\x02"
            is_right = tf.strings.substr(encoded, 0, len(header)) == header
            with tf.control_dependencies([tf.debugging.Assert(is_right, [reason])]):
                image = tf.io.decode_png(encoded, channels)
        else:
            is_right = tf.reduce_all(tf.io.extract_jpeg_shape(encoded) == tf.constant(shape))
            with tf.control_dependencies([tf.debugging.Assert(is_right, [reason])]):
                image = tf.io.decode_jpeg(encoded, channels, dct_method="INTEGER_ACCURATE")
        return tf.ensure_shape(image, shape)

    return decode
