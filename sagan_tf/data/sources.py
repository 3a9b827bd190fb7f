"""Opens a data set by name or path, describes it, and picks images to look at before training."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import re

import numpy as np
import tensorflow as tf

from sagan_tf.data import embedded
from sagan_tf.data.folders import open_folder
from sagan_tf.data.prepared import is_prepared, open_prepared
from sagan_tf.data.readers import PREPARE_AGAIN, ArrayReader, DamagedImageError, Reader, RecordReader
from sagan_tf.errors import UserError, format_image_size

_FEW_IMAGES = 50  # Per class; with fewer, a conditional GAN has little to learn from.
_REASONS_SHOWN = 10


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set that is open for reading.

    Args:
        name: Its name or path.
        split: Its split.
        reader: Reads its images.
        class_names: Names of the K classes in the order of their labels, or None without labels.
        class_counts: Images of each class, or None.
        image_shape: (height, width, channels) of the prepared images; 1 or 3 channels.
        files: Paths of its files: of the N images for a folder, in their order; empty if it is embedded.
        skipped: (path, reason) of each file or folder that is not used; the path of a folder ends with a separator.
        resize: Resize filter, see `DataOptions`.
        digest: Hexadecimal SHA-256 of images and labels where it is known without reading them, as of prepared ones.
    """

    name: str
    split: str
    reader: Reader
    class_names: tuple[str, ...] | None
    class_counts: tuple[int, ...] | None
    image_shape: tuple[int, int, int]
    files: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    resize: str = "bilinear"
    digest: str | None = None

    def __post_init__(self):
        labels = self.reader.labels
        if labels is None or self.class_names is None or not len(labels):
            return
        if not 0 <= np.min(labels) <= np.max(labels) < len(self.class_names):
            raise ValueError(
                f"The labels of `reader` must be in 0 .. {len(self.class_names) - 1}, one per name of `class_names`. "
                f"Received: labels from {np.min(labels)} to {np.max(labels)}."
            )

    @property
    def num_images(self):
        """Number of images."""
        return self.reader.num_images

    @property
    def num_classes(self):
        """K, or None without labels."""
        return None if self.class_names is None else len(self.class_names)


def open_source(options, show_progress=True):
    """Opens an embedded data set, a folder of images or of `sagan prepare`, or a TensorFlow Datasets data set.

    Args:
        options: `DataOptions`; `flip` and `dequantize` are for the training step.
        show_progress: bool. Draw a progress bar while reading.

    Returns:
        Source.

    Raises:
        UserError: The data set is missing, empty or damaged, lacks the labels that `conditional` asks for, or only some
            of its images have labels.
    """
    reader, class_names, files, skipped, digest = open_reader(options, show_progress)
    if not reader.num_images:
        raise UserError(f"data set `{options.name}`, split `{options.split}`: contains no images.")
    if _is_unlabeled(options, reader.labels, class_names):
        class_names = None
    if not _uses_labels(options, class_names):
        reader, class_names, counts = dataclasses.replace(reader, labels=None), None, None
    else:
        counts = tuple(np.bincount(reader.labels, minlength=len(class_names)).tolist())
    return Source(
        name=options.name,
        split=options.split,
        reader=reader,
        class_names=class_names,
        class_counts=counts,
        image_shape=options.image_shape,
        files=files,
        skipped=skipped,
        resize=options.resize,
        digest=digest,
    )


def open_reader(options, show_progress):
    """Returns reader, class names or None, and files, skipped and digest of `Source`; labels may be of any value."""
    if options.name in embedded.NAMES:
        return _render_embedded(options), embedded.KINDS, (), (), None
    if not os.path.isdir(options.name):
        from sagan_tf.data import tfds_sources  # Slow to import.

        if os.sep not in options.name or tfds_sources.is_registered(options.name):
            return *tfds_sources.open_tfds(options, show_progress), (), None
    elif is_prepared(options.name):
        reader, class_names, files, digest = open_prepared(options, show_progress)
        return reader, class_names, files, (), digest
    return *open_folder(options, show_progress), None


def _render_embedded(options):
    if options.split not in embedded.SPLITS:
        raise UserError(
            f"data set `{options.name}`: has no split `{options.split}`. Choose from {', '.join(embedded.SPLITS)}."
        )
    height, width, channels = options.image_shape
    if height != width or not embedded.MIN_SIZE <= height <= embedded.MAX_SIZE:
        raise UserError(
            f"data set `{options.name}`: has squares only, of {embedded.MIN_SIZE} to {embedded.MAX_SIZE} px. "
            f"Got {format_image_size((height, width))}."
        )
    indices = np.arange(embedded.SPLITS[options.split])
    images, labels = embedded.render(options.name, indices, split=options.split, image_size=height, channels=channels)
    return ArrayReader(images, labels)


def _is_unlabeled(options, labels, class_names):
    """Whether every label is -1, as in unlabeled splits of TensorFlow Datasets."""
    if labels is None or class_names is None or (labels == -1).all():
        return True
    outside = labels[(labels < 0) | (labels >= len(class_names))]
    if outside.size:
        raise UserError(
            f"data set `{options.name}`, split `{options.split}`: {outside.size:,} of {labels.size:,} labels are "
            f"outside of 0 to {len(class_names) - 1}, such as {outside[0]}. Choose another split, or set "
            "data.conditional to false."
        )
    return False


def _uses_labels(options, class_names):
    if options.conditional and class_names is None:
        raise UserError(f"data.conditional: data set `{options.name}` has no labels; set it to false or null.")
    if options.conditional and len(class_names) < 2:
        raise UserError(
            f"data.conditional: data set `{options.name}` has only one class, `{class_names[0]}`. Sort the images "
            "into one folder per class, or set data.conditional to false."
        )
    return options.conditional is not False and class_names is not None and len(class_names) > 1


@contextlib.contextmanager
def translate_data_errors(*names):
    """Raises a `UserError` for TensorFlow's errors about damaged images or records; folders are checked earlier.

    It names all data sets that the block reads.
    """
    try:
        yield
    except DamagedImageError as error:
        raise _damaged(names, error) from None
    except (tf.errors.InvalidArgumentError, tf.errors.DataLossError) as error:
        if named := re.search(f"{DamagedImageError.__name__}: (.*)", error.message):
            raise _damaged(names, named[1]) from None
        is_data_loss = isinstance(error, tf.errors.DataLossError)
        if not is_data_loss and not any(op in error.message for op in ("IteratorGetNext", "Decode")):
            raise
        reason = error.message.split("}} ")[-1].split("\n")[0].split(" [Op:")[0]
        reason = re.sub("^Error in user-defined function .* with iterator: [^ ]+: ", "", reason)
        raise _damaged(names, f"{reason} {PREPARE_AGAIN}") from None


def _damaged(names, reason):
    listed = " or ".join(f"`{name}`" for name in names)
    return UserError(f"data set {listed}: an image or record is damaged and cannot be read: {reason}")


def class_distribution(source):
    """Returns the frequency of each class, float64 (K,), summing to 1; ValueError if `source` has no labels."""
    if source.class_counts is None:
        raise ValueError(f"`source` must have labels. Received: source without labels, name={source.name!r}")
    counts = np.asarray(source.class_counts, np.float64)
    return counts / counts.sum()


def describe(source):
    """Returns lines for the terminal that let users check images and labels before training."""
    shape = "x".join(map(str, source.image_shape))
    lines = [f"Data: {source.name}, split {source.split}: {source.num_images:,} images, prepared as {shape}."]
    if source.name in embedded.NAMES and os.path.isdir(source.name):
        lines.append(f"Note: this is the embedded data set, not the folder of that name, which is ./{source.name}.")
    if source.class_counts is None:
        lines.append("Classes: none (unconditional).")
    else:
        counts = np.asarray(source.class_counts)
        lines.append(
            f"Classes: {source.num_classes}; images per class: minimum {counts.min():,}, "
            f"median {int(np.median(counts)):,}, maximum {counts.max():,}."
        )
        if counts.min() < _FEW_IMAGES:
            smallest = source.class_names[int(counts.argmin())]
            num_small = int((counts < _FEW_IMAGES).sum())
            lines.append(f"Warning: {num_small} class(es) have under {_FEW_IMAGES} images, such as `{smallest}`.")
    lines += describe_skipped(source)
    return "\n".join(lines)


def describe_skipped(source):
    """Returns lines on the files and folders that are not used, counted by reason; none if all are used."""
    by_reason = collections.defaultdict(list)
    for path, reason in source.skipped:
        by_reason[reason].append(path)
    if not by_reason:
        return []
    num_files = sum(not path.endswith(os.sep) for path, _ in source.skipped)
    used = f"{source.num_images:,} of {source.num_images + num_files:,} files used"
    num_folders = len(source.skipped) - num_files
    folders = f", {num_folders:,} folder(s)" if num_folders else ""
    lines = [f"{source.name}: {used}. Skipped: {num_files:,} file(s){folders}:"]
    for reason, paths in list(by_reason.items())[:_REASONS_SHOWN]:
        more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
        lines.append(f"  {paths[0]}{more}: {reason}")
    if len(by_reason) > _REASONS_SHOWN:
        lines.append(f"  and {len(by_reason) - _REASONS_SHOWN:,} more reasons")
    return lines


def some_of_each_class(source, per_class, limit, classes=None):
    """Returns up to `per_class` images of each class, `limit` in all, uint8 (N, H, W, C), and their labels or -1.

    They are spread evenly over the images of a class, or of a data set without classes, whose files may be sorted; of
    TFRecord files, which are shuffled and slow to read through, they are the first. Only the images returned are
    decoded. `classes` are the labels of the classes (None: all); UserError if they have no image.
    """
    reader, wanted = source.reader, []
    labels = np.full(reader.num_images, -1) if reader.labels is None else np.asarray(reader.labels)
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    for label, indices in zip(present, np.split(order, starts[1:])):
        if classes is None or label in classes:
            count = min(per_class, len(indices))
            is_first = isinstance(reader, RecordReader)
            wanted.extend(indices[range(count) if is_first else np.linspace(0, len(indices) - 1, count).astype(int)])
    wanted = sorted(wanted)[:limit]
    if not wanted:
        raise UserError(f"{source.name}: the split {source.split} has no image of these classes.")
    return reader.load(wanted), labels[wanted]


def spread_over_classes(source, count, classes=None):
    """Returns up to `count` images, of as many classes as fit, uint8 (N, H, W, C), and their labels or -1.

    `classes` are the labels of the classes; None: all.
    """
    per_class = max(1, count // (len(classes) if classes else source.num_classes or 1))
    images, labels = some_of_each_class(source, per_class, count, classes)
    order = np.argsort(labels, kind="stable")
    return images[order], labels[order]


def contact_sheet_images(source, rows, columns):
    """Returns the images of `spread_over_classes`, uint8 (N, H, W, C), and N class names or numbers."""
    images, labels = spread_over_classes(source, rows * columns)
    if source.class_names is None:
        return images, [f"no. {i + 1}" for i in range(len(images))]
    return images, [source.class_names[label] for label in labels]
