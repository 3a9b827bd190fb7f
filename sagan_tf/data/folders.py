"""A folder of pictures: which files, which classes, which of them cannot be read."""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from sagan_tf.data.preprocessing import decode_square, resize_square
from sagan_tf.data.readers import ArrayReader, IndexedReader
from sagan_tf.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
_LAYOUTS = "Accepted: FOLDER/*.jpg, FOLDER/CLASS/*.jpg or FOLDER/SPLIT/CLASS/*.jpg"


def open_folder(folder, split, *, image_size, channels, resize, corrupt, memory_limit_gib, show_progress):
    """Opens a folder of pictures, flat, by class, or by split and class; every file is decoded once.

    Args:
        folder: Path.
        split: Name of a first-level folder to take, if there is one.
        image_size: Height and width in px of the prepared pictures.
        channels: 1 or 3.
        resize: Resize filter.
        corrupt: `stop` or `skip`.
        memory_limit_gib: Largest prepared data set kept in memory (GiB); a larger one is read by number.
        show_progress: Draw a bar.

    Returns:
        (reader, class names or None, ((file, reason) of each unreadable file ...)).

    Raises:
        UserError: The folder is missing, empty, mixes layouts, or holds unreadable files and `corrupt` is `stop`.
    """
    paths, labels, names = list_pictures(folder, split)
    in_memory = len(paths) * image_size**2 * channels <= memory_limit_gib * 2**30
    images, good, skipped = [], [], []
    for i, path in enumerate(tqdm(paths, desc=f"reading {folder}", unit="file", disable=not show_progress)):
        try:
            image = load_picture(path, image_size, channels, resize)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, tf.errors.OpError) as error:
            skipped.append((path, " ".join(str(error).split("}} ")[-1].split(" [Op")[0].split())[:120]))
            continue
        good.append(i)
        if in_memory:
            images.append(image)
    _refuse_unreadable(folder, skipped, len(paths), corrupt)
    labels = None if labels is None else np.asarray(labels, np.int32)[good]
    if in_memory:
        return ArrayReader(np.stack(images), labels), names, tuple(skipped)
    kept = tuple(paths[i] for i in good)
    load = _loader(tf.constant(kept), image_size, channels, resize)
    return IndexedReader(len(good), load, labels, kept), names, tuple(skipped)


def _refuse_unreadable(folder, skipped, total, corrupt):
    if skipped and (corrupt == "stop" or len(skipped) == total):
        listed = "; ".join(f"{path}: {reason}" for path, reason in skipped[:10])
        more = f"; and {len(skipped) - 10} more" if len(skipped) > 10 else ""
        hint = "" if len(skipped) == total else " Repair or remove them, or set data.corrupt to skip."
        raise UserError(f"{folder}: {len(skipped)} of {total} files cannot be read: {listed}{more}.{hint}")


def list_pictures(folder, split):
    """Lists the pictures of a folder in the order of their names.

    Args:
        folder: Path.
        split: See `open_folder`.

    Returns:
        (paths, labels or None, class names or None).

    Raises:
        UserError: See `open_folder`.
    """
    if not os.path.isdir(folder):
        raise UserError(f"data.name: folder `{folder}` is not there.")
    if os.path.isdir(os.path.join(folder, split)):
        folder = os.path.join(folder, split)
    flat, folders = _entries(folder)
    by_class = {}
    for name in folders:
        inside, deeper = _entries(os.path.join(folder, name))
        if deeper and any(_entries(os.path.join(folder, name, one))[0] for one in deeper):
            raise UserError(
                f"{folder}: pictures lie deeper than a folder a class, as in `{name}/{deeper[0]}`. {_LAYOUTS}; "
                f"there is no split `{split}` here."
            )
        if inside:
            by_class[name] = [os.path.join(folder, name, one) for one in inside]
    if flat and by_class:
        raise UserError(
            f"{folder}: holds pictures (`{flat[0]}`) and folders of pictures (`{next(iter(by_class))}`). {_LAYOUTS}."
        )
    if flat:
        return [os.path.join(folder, name) for name in flat], None, None
    if not by_class:
        raise UserError(f"{folder}: holds no picture ({', '.join(SUFFIXES)}). {_LAYOUTS}.")
    labels = [label for label, paths in enumerate(by_class.values()) for _ in paths]
    return [path for paths in by_class.values() for path in paths], labels, tuple(by_class)


def _entries(folder):
    """Names of the pictures and of the folders, sorted, without hidden ones and what systems leave behind."""
    visible = [entry for entry in os.scandir(folder) if not entry.name.startswith((".", "__"))]
    for entry in visible:
        if not entry.name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in entry.name):
            raise UserError(f"{folder}: the name {os.fsencode(entry.name)} is no text in UTF-8. Rename it.")
    # Not the entry's own `is_file`, which fails at a link that leads to itself.
    pictures = sorted(e.name for e in visible if os.path.isfile(e.path) and e.name.lower().endswith(SUFFIXES))
    return pictures, sorted(e.name for e in visible if os.path.isdir(e.path))


def load_picture(path, image_size, channels, resize="bilinear"):
    """Reads one file, whatever its format, mode or EXIF rotation.

    An upright JPEG goes through TensorFlow, which decodes the central square alone; all else through Pillow.

    Args:
        path: Of the file.
        image_size: Height and width in px of the result.
        channels: 1 or 3.
        resize: Resize filter.

    Returns:
        uint8 array (image_size, image_size, channels).

    Raises:
        OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError, tf.errors.OpError: It cannot be read.
    """
    with Image.open(path) as picture:
        upright = picture.getexif().get(0x0112, 1) == 1
        if picture.format == "JPEG" and upright and picture.mode in ("RGB", "L"):
            with open(path, "rb") as file:
                return decode_square(file.read(), image_size, channels, resize).numpy()
        square = _square(ImageOps.exif_transpose(picture))
    return resize_square(square, image_size, channels, resize).numpy()


def _square(picture):
    """The largest central square as uint8 RGB (S, S, 3); 16-bit grey scaled down, transparency on white."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    picture = picture.crop((left, top, left + side, top + side))
    if picture.mode.startswith("I"):
        picture = Image.fromarray((np.asarray(picture, np.float64) / 257.0).round().clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.asarray(picture.convert("RGB"))


def _loader(paths, image_size, channels, resize):
    def read(path):
        # Bytes inside a graph, an array of them outside.
        return load_picture(np.asarray(path).item().decode(), image_size, channels, resize)

    def load(index):
        picture = tf.numpy_function(read, [tf.gather(paths, index)], tf.uint8)
        return tf.ensure_shape(picture, (image_size, image_size, channels))

    return load
