"""Reads a TensorFlow Datasets data set, from memory or by index; downloads or prepares it only when asked."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import tensorflow_datasets as tfds

from sagan_tf.data import embedded
from sagan_tf.data.decoding import decode_image
from sagan_tf.data.readers import RecordReader, read_into_memory
from sagan_tf.data.tfrecords import make_record_reader
from sagan_tf.errors import UserError, did_you_mean


def open_tfds(options, show_progress):
    """Returns (reader, class names or None, paths of the record files); a prepared data set needs no network."""
    builder = _make_builder(options)
    _prepare(builder, options)
    _check_format(builder, options.name)
    image_key, label_key = _choose_features(builder, options.name)
    _check_dtype(builder, options.name, image_key)
    files, skips, takes = _list_files(builder, options)
    class_names = None if label_key is None else tuple(builder.info.features[label_key].names)
    fetch = make_record_reader(files, skips, takes)

    def parse(record):
        return builder.info.features.deserialize_example(record, decoders={image_key: tfds.decode.SkipDecoding()})

    def decode(record):
        return decode_image(parse(record)[image_key], options.image_shape, options.resize)

    reader = RecordReader(fetch, decode, None, files, skips, takes)
    if class_names is not None and options.conditional is not False:
        labels = dataclasses.replace(reader, decode=lambda record: parse(record)[label_key]).in_order_batches(4096)
        reader = dataclasses.replace(reader, labels=np.concatenate([batch for batch, *_ in labels]).astype(np.int32))
    return read_into_memory(reader, options, show_progress), class_names, files


def is_registered(name):
    """Whether a name that may have slashes, such as `imagenet_resized/64x64`, begins with a known data set's."""
    return name.split("/")[0] in tfds.list_builders(with_community_datasets=False)


def _make_builder(options):
    name = options.name
    try:
        return tfds.builder(name, data_dir=options.data_dir)
    except tfds.core.registered.DatasetNotFoundError:
        raise _unknown_name(name) from None
    except ImportError as error:  # some data sets need further packages
        raise UserError(f"data.name: `{name}` needs a package: {error}. Install it with pip.") from None
    except Exception as error:  # of the files, or of the network: `huggingface:` names
        if str(error).startswith("Parsing builder name"):  # it has a character that no name has
            raise _unknown_name(name) from None
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"data.name: `{name}` cannot be opened: {reason}") from None


def _unknown_name(name):
    known = [*tfds.list_builders(with_community_datasets=False), *embedded.NAMES]
    spellings = (name.lower(), re.sub("[-_ ]", "", name.lower()))
    hints = (did_you_mean(spelling, known, similarity=0.82) for spelling in spellings)
    hint = next(filter(None, hints), " Name your folder with --data.name PATH.")
    return UserError(f"data.name: `{name}` is neither a folder nor a TensorFlow Datasets name.{hint}")


def _prepare(builder, options):
    if builder.data_path.exists():
        return
    if not options.manual_dir and not options.download:
        raise UserError(
            f"data set `{options.name}` is not prepared in {builder.data_path.parent.parent}; set data.data_dir to its "
            "folder, data.manual_dir to the folder of its archives, or data.download to true."
        )
    config = tfds.download.DownloadConfig(manual_dir=options.manual_dir)
    try:
        builder.download_and_prepare(download_config=config)
    except Exception as error:  # of a download, an archive, a missing package: each has types of its own
        raise UserError(f"data set `{options.name}` cannot be prepared: {' '.join(str(error).split())[:300]}") from None


def _check_format(builder, name):
    file_format = builder.info.file_format
    if file_format != tfds.core.FileFormat.TFRECORD:
        raise UserError(
            f"data set `{name}`: is prepared as {file_format.value}, and only tfrecord is read. Prepare it again in "
            "another data.data_dir."
        )


def _choose_features(builder, name):
    """Returns the keys of image and label: those of these names, or else the only one of its type (label: or None)."""
    features = dict(builder.info.features.items())
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    labels = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    image_key = "image" if "image" in images else images[0] if len(images) == 1 else None
    if image_key is None:
        raise UserError(f"data set `{name}`: has {len(images)} image features, {images}; it must have exactly one.")
    return image_key, "label" if "label" in labels else labels[0] if len(labels) == 1 else None


def _check_dtype(builder, name, image_key):
    dtype = np.dtype(builder.info.features[image_key].np_dtype)
    if dtype not in (np.uint8, np.uint16):
        raise UserError(
            f"data set `{name}`: the images of `{image_key}` are {dtype}, and which values are black and white is "
            "not declared. Convert them to uint8, such as to a folder of PNG files."
        )


def _list_files(builder, options):
    """Returns paths, records to skip and records to take, one per file of the split."""
    try:
        instructions = builder.info.splits[options.split].file_instructions
    except (KeyError, ValueError, NotImplementedError):
        available = ", ".join(builder.info.splits) or "none"
        raise UserError(
            f"data set `{options.name}`: has no split `{options.split}`. Choose from {available}."
        ) from None
    files = [(i.filename, i.skip, i.examples_in_shard - i.skip if i.take == -1 else i.take) for i in instructions]
    if not files:
        raise UserError(f"data set `{options.name}`, split `{options.split}`: contains no images.")
    if any(part.to is not None and part.to < (part.from_ or 0) for part in _parts(builder, options.split)):
        # Such as train[5:2]. TensorFlow Datasets would read another number of images.
        raise UserError(f"data set `{options.name}`, split `{options.split}`: a part of it ends before it begins.")
    paths, skips, takes = zip(*files)
    return tuple(map(str, paths)), np.asarray(skips, np.int64), np.asarray(takes, np.int64)


def _parts(builder, split):
    """The parts of a split such as train[:100]+test, with where they begin and end; none of a name."""
    splits = builder.info.splits
    if split in splits or split == "all":
        return []
    return tfds.core.ReadInstruction.from_spec(split).to_absolute(splits)
