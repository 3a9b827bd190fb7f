"""Reads a folder of pictures: lists files and classes, decodes them, and reports those that cannot be read."""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from sagan_tf.data.decoding import decode_square, resize_square
from sagan_tf.data.readers import ArrayReader, IndexedReader
from sagan_tf.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
_LAYOUTS = "Accepted: FOLDER/*.jpg, FOLDER/CLASS/*.jpg or FOLDER/SPLIT/CLASS/*.jpg"
_EXIF_ORIENTATION, _UPRIGHT = 0x0112, 1


def open_folder(options, show_progress):
    """Decodes every file once; returns (reader, class names or None, (file, reason) of each unreadable file)."""
    folder, size, channels = options.name, options.image_size, options.image_channels
    paths, labels, class_names = list_pictures(folder, options.split)
    in_memory = len(paths) * size**2 * channels <= options.memory_limit_gib * 2**30
    images, readable, unreadable = [], [], []
    for i, path in enumerate(tqdm(paths, desc=f"reading {folder}", unit="file", disable=not show_progress)):
        try:
            image = load_picture(path, size, channels, options.resize)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, tf.errors.OpError) as error:
            unreadable.append((path, " ".join(str(error).split("}} ")[-1].split(" [Op")[0].split())[:120]))
            continue
        readable.append(i)
        if in_memory:
            images.append(image)
    if unreadable and (options.corrupt == "stop" or not readable):
        raise _unreadable_error(folder, unreadable, len(paths))
    labels = None if labels is None else np.asarray(labels, np.int32)[readable]
    if in_memory:
        return ArrayReader(np.stack(images), labels), class_names, tuple(unreadable)
    files = tuple(paths[i] for i in readable)
    load = _make_loader(tf.constant(files), size, channels, options.resize)
    return IndexedReader(load, labels, files), class_names, tuple(unreadable)


def _unreadable_error(folder, unreadable, total):
    listed = "; ".join(f"{path}: {reason}" for path, reason in unreadable[:10])
    rest = f"; and {len(unreadable) - 10} more" if len(unreadable) > 10 else ""
    hint = "" if len(unreadable) == total else " Repair or remove them, or set data.corrupt to skip."
    return UserError(f"{folder}: {len(unreadable)} of {total} files cannot be read: {listed}{rest}.{hint}")


def list_pictures(folder, split):
    """Lists pictures by name: (paths, labels or None, class names or None); takes the subfolder `split` if present."""
    if not os.path.isdir(folder):
        raise UserError(f"data.name: folder `{folder}` does not exist.")
    if os.path.isdir(os.path.join(folder, split)):
        folder = os.path.join(folder, split)
    files, subfolders = _list_entries(folder)
    by_class = {}
    for name in subfolders:
        class_files, nested = _list_entries(os.path.join(folder, name))
        if nested and any(_list_entries(os.path.join(folder, name, entry))[0] for entry in nested):
            raise UserError(
                f"{folder}: pictures are nested deeper than one folder per class, as in `{name}/{nested[0]}`. "
                f"{_LAYOUTS}; there is no split `{split}`."
            )
        if class_files:
            by_class[name] = [os.path.join(folder, name, file) for file in class_files]
    if files and by_class:
        raise UserError(
            f"{folder}: contains both pictures (`{files[0]}`) and folders of pictures (`{next(iter(by_class))}`). "
            f"{_LAYOUTS}."
        )
    if files:
        return [os.path.join(folder, name) for name in files], None, None
    if not by_class:
        raise UserError(f"{folder}: contains no pictures ({', '.join(SUFFIXES)}). {_LAYOUTS}.")
    labels = [label for label, paths in enumerate(by_class.values()) for _ in paths]
    return [path for paths in by_class.values() for path in paths], labels, tuple(by_class)


def _list_entries(folder):
    """Returns sorted names of pictures and of subfolders, without hidden entries and `__MACOSX`."""
    visible = [entry for entry in os.scandir(folder) if not entry.name.startswith((".", "__"))]
    for entry in visible:
        if not entry.name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in entry.name):
            raise UserError(f"{folder}: the name {os.fsencode(entry.name)} is not valid UTF-8. Rename it.")
    # `entry.is_file()` raises at a link that leads to itself.
    pictures = sorted(e.name for e in visible if os.path.isfile(e.path) and e.name.lower().endswith(SUFFIXES))
    return pictures, sorted(e.name for e in visible if os.path.isdir(e.path))


def load_picture(path, image_size, channels, resize="bilinear"):
    """Reads a file of any format, mode and EXIF orientation as uint8 (image_size, image_size, channels)."""
    with Image.open(path) as picture:
        upright = picture.getexif().get(_EXIF_ORIENTATION, _UPRIGHT) == _UPRIGHT
        # TensorFlow decodes the central square of a JPEG alone, which is faster.
        if picture.format == "JPEG" and upright and picture.mode in ("RGB", "L"):
            with open(path, "rb") as file:
                return decode_square(file.read(), image_size, channels, resize).numpy()
        square = _crop_square(ImageOps.exif_transpose(picture))
    return resize_square(square, image_size, channels, resize).numpy()


def _crop_square(picture):
    """Returns the largest central square as uint8 RGB (S, S, 3): 16-bit grey scaled down, transparency on white."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    picture = picture.crop((left, top, left + side, top + side))
    if picture.mode.startswith("I"):
        picture = Image.fromarray((np.asarray(picture, np.float64) / 257.0).round().clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.asarray(picture.convert("RGB"))


def _make_loader(paths, image_size, channels, resize):
    def read(path):
        # `path` is bytes in a graph and an array of bytes outside.
        return load_picture(np.asarray(path).item().decode(), image_size, channels, resize)

    def load(index):
        image = tf.numpy_function(read, [tf.gather(paths, index)], tf.uint8)
        return tf.ensure_shape(image, (image_size, image_size, channels))

    return load
