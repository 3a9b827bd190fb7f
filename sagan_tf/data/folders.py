"""Reads a folder of images: lists files and classes, and reports those that cannot be read."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from sagan_tf.data import tiny_imagenet
from sagan_tf.data.checked_files import CheckedFiles
from sagan_tf.data.image_files import UNREADABLE, image_suffixes, load_image, read_image, reason_in_one_line
from sagan_tf.data.readers import ArrayReader, DamagedImageError, IndexedReader
from sagan_tf.data.threads import TOGETHER, in_order
from sagan_tf.errors import UserError, check_utf8, list_some
from sagan_tf.utils.progress import progress_bar

_SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
_LAYOUTS = (
    "Accepted: FOLDER/*.jpg, FOLDER/CLASS/*.jpg, FOLDER/SPLIT/*.jpg, FOLDER/SPLIT/CLASS/*.jpg, or the folder of "
    "Tiny-ImageNet's archive."
)
_NO_IMAGES = "contains no images"


def open_folder(options, show_progress):
    """Reads every file, or those that were not read before if they do not fit in memory.

    Args:
        options: `DataOptions`; its `name` is the path of the folder.
        show_progress: bool. Show a progress bar.

    Returns:
        (reader, class names or None, files, (path, reason) of each file or folder that is not used).

    Raises:
        UserError: As `list_images`; or files cannot be read and `options.corrupt` is `stop`, or none can be read.
    """
    folder, image_shape = options.name, options.image_shape
    paths, labels, class_names, skipped = list_images(folder, options.split)
    bar = {"desc": f"reading {folder}", "unit": "file", "disable": not show_progress}
    in_memory = len(paths) * math.prod(image_shape) <= options.memory_limit_gib * 2**30
    if in_memory:
        images, unreadable = _read_all(paths, options, bar)
    else:
        unreadable = _check(paths, image_shape, CheckedFiles(folder, options.split, paths), bar)
    if unreadable and (options.corrupt == "stop" or len(unreadable) == len(paths)):
        hint = "Repair or remove them; `train` also takes --data.corrupt skip."
        raise unreadable_error(folder, list(unreadable.items()), len(paths), hint)
    readable = [i for i, path in enumerate(paths) if path not in unreadable]
    files, skipped = tuple(paths[i] for i in readable), (*skipped, *unreadable.items())
    if labels is not None:
        labels = np.asarray(labels, np.int32)
        labels, class_names, classes = without_unreadable_classes(labels[readable], labels, class_names, paths)
        skipped += tuple(classes)
    if in_memory:
        return ArrayReader(np.stack(images), labels), class_names, files, skipped
    table, decode = tf.constant(files), _make_decoder(image_shape, options.resize)
    return IndexedReader(lambda i: tf.gather(table, i), decode, labels, files), class_names, files, skipped


def without_unreadable_classes(readable_labels, labels, class_names, paths):
    """Leaves out the classes that have images, of which none can be read.

    Args:
        readable_labels: int array, labels of the images that can be read.
        labels: int array (N,), of all images.
        class_names: Names by label.
        paths: N paths.

    Returns:
        (int32 array of the new labels of the readable images, tuple of names, list of (folder of a class, reason)).
    """
    unreadable = np.setdiff1d(labels, readable_labels)
    kept = np.setdiff1d(np.arange(len(class_names)), unreadable)
    folders = [os.path.dirname(paths[np.flatnonzero(labels == label)[0]]) for label in unreadable]
    reasons = [f"no image of the class `{class_names[label]}` can be read" for label in unreadable]
    skipped = [(os.path.join(folder, ""), reason) for folder, reason in zip(folders, reasons)]
    return np.searchsorted(kept, readable_labels).astype(np.int32), tuple(class_names[i] for i in kept), skipped


def _read_all(paths, options, bar):
    """Returns the list of the images, and the dict of paths to reasons of the files that cannot be read."""
    images, unreadable = [], {}
    with _read_in_threads(paths, lambda path: load_image(path, options.image_shape, options.resize)) as loaded:
        for path, image in zip(paths, progress_bar(loaded, total=len(paths), **bar)):
            if isinstance(image, str):
                unreadable[path] = image
            else:
                images.append(image)
    return images, unreadable


def _check(paths, image_shape, checked, bar):
    """Decodes the files that were not decoded before; returns the dict of paths to reasons of unreadable ones."""
    unreadable, missing = {}, np.flatnonzero(~checked.known)
    if not len(missing):
        return unreadable
    try:
        read = functools.partial(read_image, image_shape=image_shape)
        with _read_in_threads([paths[i] for i in missing], lambda path: read(path) is None) as results:
            for index, result in zip(missing, progress_bar(results, total=len(missing), **bar)):
                if isinstance(result, str):
                    unreadable[paths[index]] = result
                else:
                    checked.known[index] = True
    finally:  # also after Ctrl-C
        checked.save()
    return unreadable


@contextlib.contextmanager
def _read_in_threads(paths, read):
    def read_one(path):
        try:
            return read(path)
        except UNREADABLE as error:
            return reason_in_one_line(error)

    parts = [paths[start : start + TOGETHER] for start in range(0, len(paths), TOGETHER)]
    with in_order(functools.partial(map, read_one, part) for part in parts) as lists:
        yield itertools.chain.from_iterable(lists)


def unreadable_error(folder, unreadable, total, hint):
    """Returns the error of `unreadable`, (path, reason) of some of `total` files; `hint` if others can be read."""
    listed = list_some([f"{path}: {reason}" for path, reason in unreadable], 10, "; ")
    hint = "" if len(unreadable) == total else f" {hint}"
    return UserError(f"{folder}: {len(unreadable)} of {total} files cannot be read: {listed}.{hint}")


class Listing(NamedTuple):
    """What a folder holds.

    Args:
        paths: Paths of the N images, by class and name.
        labels: N int, or None without class folders.
        class_names: Names of the class folders in the order of their labels, or None.
        skipped: (path, reason) of each file and folder that is not used; the path of a folder ends with a separator.
    """

    paths: list
    labels: list | None
    class_names: tuple | None
    skipped: list


def list_images(folder, split):
    """Lists the images of a folder, by name, without opening them.

    Subfolders are splits if all that hold images have names of splits, such as `train` and `test`; otherwise they are
    classes, and the whole folder is the split `train`.

    Args:
        folder: str, path.
        split: str, name of the split.

    Returns:
        Listing.

    Raises:
        UserError: The folder has no images, another layout, not this split, or a name that is not UTF-8.
    """
    if not os.path.isdir(folder):
        raise UserError(f"data.name: folder `{folder}` does not exist.")
    check_utf8("data.name", folder)
    if tiny_imagenet.is_tiny_imagenet(folder):
        return _list_tiny_imagenet(folder, split)
    top = _scan(folder)
    splits = [name for name in top.subfolders if name.lower() in _SPLITS]
    others = [name for name in top.subfolders if name not in splits]
    used = next((name for name in others if splits and _holds_images(os.path.join(folder, name))), None)
    if splits and used is None:
        if split not in splits:
            raise UserError(f"{folder}: has no split `{split}`. Choose from {', '.join(splits)}.")
        beside = [(os.path.join(folder, name), "beside the folders of the splits") for name in top.images]
        empty = [(os.path.join(folder, name, ""), _NO_IMAGES) for name in others]
        folder = os.path.join(folder, split)
        return _list_classes(folder, _scan(folder), beside + top.skipped + empty, hint="")
    if split != "train":
        raise UserError(
            f"{folder}: has no split `{split}`; a folder has splits only if each folder in it that has images is named "
            f"like one. {_LAYOUTS}"
        )
    hint = f" `{splits[0]}` counts as a class here, because `{used}` is not the name of a split." if used else ""
    return _list_classes(folder, top, top.skipped, hint)


def _list_classes(folder, top, skipped, hint):
    """Makes the `Listing` of a folder with the entries `top`; `hint` is added to the error of a deeper layout."""
    by_class = {}
    for name in top.subfolders:
        path = os.path.join(folder, name)
        entries = _scan(path)
        for nested in entries.subfolders:
            if _scan(os.path.join(path, nested)).images:
                raise UserError(
                    f"{folder}: images are nested deeper than one folder per class, as in `{name}/{nested}`.{hint} "
                    f"{_LAYOUTS}"
                )
            skipped.append((os.path.join(path, nested, ""), "folder in a class folder"))
        skipped += entries.skipped
        if entries.images:
            by_class[name] = [os.path.join(path, file) for file in entries.images]
        else:
            skipped.append((os.path.join(path, ""), _NO_IMAGES))
    if top.images and by_class:
        raise UserError(
            f"{folder}: contains both images (`{top.images[0]}`) and folders of images "
            f"(`{next(iter(by_class))}`). {_LAYOUTS}"
        )
    if top.images:
        return Listing([os.path.join(folder, name) for name in top.images], None, None, skipped)
    if not by_class:
        raise UserError(f"{folder}: contains no images ({', '.join(image_suffixes())}). {_LAYOUTS}")
    labels = [label for label, paths in enumerate(by_class.values()) for _ in paths]
    return Listing([path for paths in by_class.values() for path in paths], labels, tuple(by_class), skipped)


def _list_tiny_imagenet(folder, split):
    """Makes the `Listing` of a split of Tiny-ImageNet; `test` has no classes."""
    classes = tiny_imagenet.read_classes(folder)
    if split == "train":
        by_class = {wnid: os.path.join(folder, split, wnid, "images") for wnid in classes}
        scanned = [(path, wnid, _scan(path)) for wnid, path in by_class.items() if os.path.isdir(path)]
    elif os.path.isdir(path := os.path.join(folder, split, "images")):
        scanned = [(path, None, _scan(path))]
    else:
        splits = [name for name in ("train", "val", "test") if os.path.isdir(os.path.join(folder, name))]
        raise UserError(f"{folder}: has no split `{split}`. Choose from {', '.join(splits)}.")
    images = [(os.path.join(path, name), name, wnid) for path, wnid, entries in scanned for name in entries.images]
    skipped = [pair for *_, entries in scanned for pair in entries.skipped]
    if split == "test":
        return Listing([path for path, *_ in images], None, None, skipped)
    if split == "val":
        annotations = tiny_imagenet.read_annotations(folder)
        images = [(path, name, annotations.get(name)) for path, name, _ in images]
    skipped += [(path, "has no class in wnids.txt") for path, _, wnid in images if wnid not in classes]
    images = [image for image in images if image[2] in classes]
    if not images:
        raise UserError(f"{folder}: split `{split}` contains no images ({', '.join(image_suffixes())}). {_LAYOUTS}")
    order = {wnid: label for label, wnid in enumerate(classes)}
    images.sort(key=lambda image: (order[image[2]], image[1]))
    labels = [order[wnid] for *_, wnid in images]
    return Listing([path for path, *_ in images], labels, tuple(classes.values()), skipped)


class _Entries(NamedTuple):
    images: list
    subfolders: list
    skipped: list


def _holds_images(folder):
    entries = _scan(folder)
    return bool(entries.images) or any(_scan(os.path.join(folder, name)).images for name in entries.subfolders)


def _scan(folder):
    """Returns the entries of a folder, sorted by name, without hidden ones and `__MACOSX`."""
    entries, suffixes = _Entries([], [], []), image_suffixes()
    with os.scandir(folder) as scan:
        visible = [entry for entry in scan if not entry.name.startswith(".") and entry.name != "__MACOSX"]
    for entry in visible:
        name = entry.name
        if not name.isascii():
            check_utf8(folder, name)
        if _is(entry.is_dir):
            entries.subfolders.append(name)
        elif not _is(entry.is_file):
            entries.skipped.append((entry.path, "dead link" if entry.is_symlink() else "not a file"))
        elif name.lower().endswith(suffixes):
            entries.images.append(name)
        else:
            suffix = os.path.splitext(name)[1].lower()
            entries.skipped.append((entry.path, f"`{suffix}` is not read" if suffix else "no suffix"))
    for names in entries:
        names.sort()
    return entries


def _is(kind):
    """Returns `kind()`; False for a link that leads to itself, for which it raises."""
    try:
        return kind()
    except OSError:
        return False


def _make_decoder(image_shape, resize):
    def read(path):
        path = np.asarray(path).item().decode()  # bytes in a graph, and an array of bytes outside
        try:
            return load_image(path, image_shape, resize)
        except UNREADABLE as error:  # changed since it was checked
            raise DamagedImageError(f"{path}: {reason_in_one_line(error)}. Repair or restore it.") from None

    def decode(path):
        return tf.ensure_shape(tf.numpy_function(read, [path], tf.uint8), image_shape)

    return decode
