"""What a data set name or a folder holds, and a reader for it; says so before any training."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os

import numpy as np
import tensorflow as tf

from sagan_tf.data import embedded
from sagan_tf.data.folders import open_folder
from sagan_tf.data.readers import ArrayReader
from sagan_tf.data.tfds_sources import is_tfds_name, open_tfds
from sagan_tf.errors import UserError

_FEW = 50  # Pictures a class below which a conditional GAN has little to learn from.


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set that was found.

    Args:
        name: As given.
        split: Its split.
        reader: `ArrayReader`, `IndexedReader` or `RecordReader`.
        class_names: Names of the K classes in the order of their labels, or None without labels.
        class_counts: Pictures of each class, or None.
        image_size: Height and width in px after preparation.
        image_channels: 1 or 3.
        skipped: (file, reason) of each picture that could not be read.
    """

    name: str
    split: str
    reader: object
    class_names: tuple[str, ...] | None
    class_counts: tuple[int, ...] | None
    image_size: int
    image_channels: int
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def num_images(self):
        """Pictures in all."""
        return self.reader.num_images

    @property
    def num_classes(self):
        """K, or None without labels."""
        return None if self.class_names is None else len(self.class_names)


def open_source(
    name,
    split="train",
    *,
    data_dir=None,
    manual_dir=None,
    download=False,
    image_size=32,
    image_channels=3,
    conditional=None,
    resize="bilinear",
    corrupt="stop",
    memory_limit_gib=2.0,
    shuffle_buffer=10_000,
    seed=0,
    show_progress=True,
):
    """Opens a data set.

    Args:
        name: `twins` or `mirror` (embedded), a folder of pictures, or a TensorFlow Datasets name.
        split: Split; for a folder, its first level if there is one of that name.
        data_dir, manual_dir, download: See `tfds_sources.open_tfds`.
        image_size: Height and width in px of the prepared pictures.
        image_channels: 1 or 3.
        conditional: True asks for labels of two classes or more; None takes them where they are; False drops them.
        resize: Resize filter; see `preprocessing.resize_square`.
        corrupt: `stop` at unreadable files of a folder, or `skip` them.
        memory_limit_gib: Largest data set, prepared, that is kept in memory (GiB).
        shuffle_buffer: Encoded records held for shuffling where pictures can only be read in order.
        seed: Not used by stored data; embedded data sets have one seed of their own, so that they stay the same set.
        show_progress: Draw a bar while reading.

    Returns:
        Source.

    Raises:
        UserError: It is not there, is empty, is broken, or has not the labels asked for.
    """
    if image_channels not in (1, 3):
        raise UserError(f"data.image_channels: pictures are read with 1 or 3 channels, not {image_channels}.")
    wanted = dict(image_size=image_size, channels=image_channels, show_progress=show_progress)
    if name in embedded.NAMES:
        reader, names = _open_embedded(name, split, **wanted)
        skipped = ()
    elif os.path.isdir(name) or (os.sep in name and not is_tfds_name(name)):
        reader, names, skipped = open_folder(
            name, split, resize=resize, corrupt=corrupt, memory_limit_gib=memory_limit_gib, **wanted
        )
    else:
        reader, names = open_tfds(
            name, split, data_dir=data_dir, manual_dir=manual_dir, download=download, resize=resize,
            memory_limit_gib=memory_limit_gib, shuffle_buffer=shuffle_buffer, **wanted,
        )
        skipped = ()
    if not reader.num_images:
        raise UserError(f"data set `{name}`, split `{split}`: holds no picture.")
    reader, names, counts = _labels_as_asked(name, reader, names, conditional)
    return Source(name, split, reader, names, counts, image_size, image_channels, skipped)


def _open_embedded(name, split, image_size, channels, show_progress):
    if split not in embedded.SPLITS:
        raise UserError(f"data set `{name}`: has no split `{split}`; it has {', '.join(embedded.SPLITS)}.")
    indices = np.arange(embedded.SPLITS[split])
    images, labels = embedded.render(name, indices, split=split, image_size=image_size, channels=channels)
    return ArrayReader(images, labels), embedded.KINDS


def _labels_as_asked(name, reader, names, conditional):
    if conditional and names is None:
        raise UserError(f"data.conditional: data set `{name}` has no labels; set it to false or null.")
    if conditional and len(names) < 2:
        raise UserError(
            f"data.conditional: data set `{name}` has one class, `{names[0]}`, where several are asked; put the "
            "pictures into a folder a class, or set data.conditional to false."
        )
    if conditional is False or names is None or len(names) < 2:
        return dataclasses.replace(reader, **_without_labels(reader)), None, None
    counts = np.bincount(reader.all_labels(), minlength=len(names))
    return reader, tuple(names), tuple(int(count) for count in counts)


def _without_labels(reader):
    if hasattr(reader, "labels"):
        return {"labels": None}
    return {"parse": lambda record: reader.parse(record)[:1]}


@contextlib.contextmanager
def damage_named(name):
    """Turns TensorFlow's errors about a damaged picture or record, met while reading a data set, into one line.

    Folders are checked before they are read; prepared data sets are met here.

    Args:
        name: The data set's.

    Raises:
        UserError: In their place.
    """
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.DataLossError) as error:
        lost = isinstance(error, tf.errors.DataLossError)
        if not lost and not any(sign in error.message for sign in ("IteratorGetNext", "Decode")):
            raise
        reason = error.message.split("}} ")[-1].split("\n")[0].split(" [Op:")[0]
        raise UserError(
            f"data set `{name}`: a picture or record is damaged and cannot be read: {reason} Prepare the data again."
        ) from None


def class_distribution(source):
    """How often each class occurs.

    Args:
        source: `Source` with labels.

    Returns:
        float64 array (K,), frequencies that sum to 1.

    Raises:
        ValueError: The source has no labels.
    """
    if source.class_counts is None:
        raise ValueError(f"`source` must have labels. Received: {source.name} without.")
    counts = np.asarray(source.class_counts, np.float64)
    return counts / counts.sum()


def describe(source):
    """Says in a few lines what was found: what users of such programs lose weeks to is in the labels.

    Args:
        source: `Source`.

    Returns:
        str, lines for the terminal.
    """
    shape = f"{source.image_size}x{source.image_size}x{source.image_channels}"
    lines = [f"Data: {source.name}, split {source.split}: {source.num_images:,} pictures, prepared as {shape}."]
    if source.class_counts is None:
        lines.append("Classes: none (unconditional).")
    else:
        counts = np.asarray(source.class_counts)
        lines.append(
            f"Classes: {source.num_classes}; pictures a class: {counts.min():,} at least, "
            f"{int(np.median(counts)):,} in the median, {counts.max():,} at most."
        )
        if counts.min() < _FEW:
            least = source.class_names[int(counts.argmin())]
            few = int((counts < _FEW).sum())
            lines.append(f"Warning: {few} class(es) have fewer than {_FEW} pictures, such as `{least}`.")
    if source.skipped:
        lines.append(f"Skipped: {len(source.skipped)} unreadable file(s):")
        lines += [f"  {path}: {reason}" for path, reason in source.skipped[:10]]
    return "\n".join(lines)


def contact_sheet_images(source, rows, columns):
    """Picks pictures to look at before training: the first ones of as many classes as there are places for.

    Args:
        source: `Source`.
        rows, columns: ints, places.

    Returns:
        (images, captions): uint8 (N, S, S, C) as the networks will see them, and N class names or numbers; N is at most
        rows * columns.
    """
    places = rows * columns
    share = max(1, places // (source.num_classes or 1))
    taken, found = {}, []
    # Far enough to meet every class of a data set in random order, not so far as to read one through.
    for load, label in itertools.islice(source.reader.in_order(), 200 * places):
        if source.class_names is not None and taken.get(label, 0) >= share:
            continue
        taken[label] = taken.get(label, 0) + 1
        found.append((label, load))
        if len(found) == places:
            break
    found.sort(key=lambda item: item[0])
    captions = [f"no. {i + 1}" for i in range(len(found))]
    if source.class_names is not None:
        captions = [source.class_names[label] for label, _ in found]
    return np.stack([np.asarray(load()) for _, load in found]), captions
