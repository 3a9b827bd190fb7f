"""A TensorFlow Datasets name: found on disk first, prepared only when asked, read in memory or in order."""

from __future__ import annotations

import difflib

import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from sagan_tf.data.preprocessing import decode_square
from sagan_tf.data.readers import ArrayReader, RecordReader
from sagan_tf.errors import UserError


def open_tfds(
    name, split, *, data_dir, manual_dir, download, image_size, channels, resize, memory_limit_gib, shuffle_buffer,
    show_progress,
):
    """Opens a TensorFlow Datasets data set.

    A prepared folder is looked for first, without network. The image is the feature `image`, or else the only one; the
    labels are the feature `label`, or else the only top-level ClassLabel.

    Args:
        name: Such as `cifar10`, `imagenet2012:5.1.0`.
        split: Such as `train`, `train[:90%]`.
        data_dir: Folder of prepared data sets; None: TensorFlow Datasets' own.
        manual_dir: Folder of archives that were downloaded by hand; given, the data set may be prepared from them.
        download: Allow a download.
        image_size, channels, resize: Of the prepared pictures.
        memory_limit_gib: Largest prepared data set kept in memory (GiB).
        shuffle_buffer: Encoded records held for shuffling.
        show_progress: Draw a bar.

    Returns:
        (reader, class names or None).

    Raises:
        UserError: There is no such data set, split, or image; or it is not prepared and may not be.
    """
    builder = _builder(name, data_dir)
    _prepare(builder, name, manual_dir, download)
    image_key, label_key = _keys(builder, name)
    files, skips, takes = _files(builder, name, split)

    def parse(record):
        example = builder.info.features.deserialize_example(record, decoders=_undecoded(image_key))
        image = example[image_key]
        return (image,) if label_key is None else (image, tf.cast(example[label_key], tf.int32))

    reader = RecordReader(
        files=files,
        skips=skips,
        takes=takes,
        open_file=lambda path: tf.data.TFRecordDataset(path, buffer_size=8 << 20),
        parse=parse,
        decode=lambda data: decode_square(data, image_size, channels, resize),
        shuffle_buffer=shuffle_buffer,
    )
    names = None if label_key is None else tuple(builder.info.features[label_key].names)
    if reader.num_images * image_size**2 * channels <= memory_limit_gib * 2**30:
        reader = _in_memory(reader, name, image_size, channels, show_progress)
    return reader, names


def is_tfds_name(name):
    """Whether a name with slashes, as `imagenet_resized/64x64`, begins with that of a known data set.

    Args:
        name: str.

    Returns:
        bool.
    """
    import tensorflow_datasets as tfds

    return name.split("/")[0] in tfds.list_builders(with_community_datasets=False)


def _undecoded(image_key):
    import tensorflow_datasets as tfds

    return {image_key: tfds.decode.SkipDecoding()}


def _builder(name, data_dir):
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False) + ["twins", "mirror"]
        near = difflib.get_close_matches(name, known, 1)
        hint = f" Did you mean `{near[0]}`?" if near else ""
        raise UserError(f"data.name: `{name}` is no folder and no TensorFlow Datasets name.{hint}") from None
    except (AssertionError, ValueError, OSError) as error:
        raise UserError(f"data.name: `{name}` cannot be opened: {str(error).strip().splitlines()[0]}") from None


def _prepare(builder, name, manual_dir, download):
    import tensorflow_datasets as tfds

    if builder.data_path.exists():
        return
    if not manual_dir and not download:
        raise UserError(
            f"data set `{name}` is not prepared in {builder.data_path.parent.parent}; set data.data_dir to where it "
            "is, data.manual_dir to the folder of its archives, or data.download to true."
        )
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    try:
        builder.download_and_prepare(download_config=config)
    except (AssertionError, ValueError, OSError, tf.errors.OpError) as error:
        raise UserError(f"data set `{name}` cannot be prepared: {' '.join(str(error).split())[:300]}") from None


def _keys(builder, name):
    import tensorflow_datasets as tfds

    features = dict(builder.info.features.items())
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    labels = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    image = "image" if "image" in images else images[0] if len(images) == 1 else None
    if image is None:
        raise UserError(f"data set `{name}`: has {len(images)} image features, {images}, where one is needed.")
    return image, "label" if "label" in labels else labels[0] if len(labels) == 1 else None


def _files(builder, name, split):
    try:
        instructions = builder.info.splits[split].file_instructions
    except (KeyError, ValueError):
        have = ", ".join(builder.info.splits) or "none"
        raise UserError(f"data set `{name}`: has no split `{split}`; it has {have}.") from None
    columns = [
        (i.filename, i.skip, i.examples_in_shard - i.skip if i.take == -1 else i.take) for i in instructions
    ]
    if not columns:
        raise UserError(f"data set `{name}`, split `{split}`: holds no picture.")
    paths, skips, takes = zip(*columns)
    return tuple(map(str, paths)), np.asarray(skips, np.int64), np.asarray(takes, np.int64)


def _in_memory(reader, name, image_size, channels, show_progress):
    def decoded(image, *label):
        return (reader.decode(image), *label)

    pictures = reader.parsed().map(decoded, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).batch(256)
    images = np.empty((reader.num_images, image_size, image_size, channels), np.uint8)
    labels, done = [], 0
    with tqdm(total=reader.num_images, desc=f"reading {name}", unit="picture", disable=not show_progress) as bar:
        for image, *label in pictures.as_numpy_iterator():
            images[done : done + len(image)] = image
            done += len(image)
            labels += label
            bar.update(len(image))
    return ArrayReader(images[:done], np.concatenate(labels).astype(np.int32) if labels else None)
