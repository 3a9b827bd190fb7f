"""The data of an evaluation: the reference, and the images of a folder."""

import dataclasses
import os

from sagan_tf.commands.evaluate_checks import refuse_data_options
from sagan_tf.commands.options import image_sides
from sagan_tf.data.fingerprint import portable_fingerprint
from sagan_tf.data.folders import list_images
from sagan_tf.data.image_files import UNREADABLE, open_image
from sagan_tf.data.options import DataOptions
from sagan_tf.data.prepared import is_prepared, prepared_shape, read_manifest, split_folder
from sagan_tf.data.sources import class_distribution, describe_skipped, open_source
from sagan_tf.errors import UserError, renamed_options
from sagan_tf.runs.data_check import check_data, has_classes_of

# What training calls the same options.
_OPTIONS = {
    "Name your folder with --data.name PATH": "--reference may be the path of a folder",
    "data.data_dir": "--data_dir", "data.manual_dir": "--manual_dir", "data.download to true": "--download",
}  # fmt: skip


def open_run_reference(run, config, options, image_shape):
    """Opens the data set to compare with, and checks that of the run; None for a file of statistics."""
    if options.reference is not None:
        return open_reference(options, image_shape, config.data.resize)
    # The data may have moved since training.
    changes = {name: value for name, value in {**_data_options(options), "split": options.split}.items() if value}
    source = _open(dataclasses.replace(config.data, **changes))
    other_split = source.split != config.data.split
    check_data(run, portable_fingerprint(source), options.allow_data_change, classes_only=other_split)
    return source


def open_reference(options, image_shape, resize):
    """Opens --reference, with images made as those that it is compared with; None for a file of statistics."""
    if options.reference.endswith(".npz"):
        refuse_data_options(options)
        return None
    if options.allow_data_change:
        raise UserError("--allow_data_change: is for the data of training; leave it out, or --reference.")
    height, width, channels = image_shape
    shape = {"image_height": height, "image_width": width, "image_channels": channels, "resize": resize}
    with renamed_options({"data.name:": "--reference:"}):
        return _open(_data(options, options.reference, split=options.split or "train", **shape))


def open_images(folder, options):
    """Opens the images of a folder, a pathlib.Path, in the size that the options give, or in their own."""
    sides = image_sides(options) or _default_sides(folder)
    # Absolute: a folder may have the name of a data set.
    return _open(_data(options, os.path.abspath(folder), **sides))


def _data(options, name, **fields):
    """The `DataOptions` of a data set or folder; prepared images keep their resize filter and, by default, channels."""
    split = fields.get("split", "train")
    manifest = read_manifest(split_folder(name, split)) if os.path.isdir(name) and is_prepared(name) else None
    if manifest is not None:
        made = manifest["options"]
        fields = {"image_channels": made["image_channels"], **fields, "resize": made["resize"]}
    return DataOptions(name=name, **fields, **_data_options(options))


def _open(data):
    """Opens a data set, and prints which of its files are not used."""
    with renamed_options(_OPTIONS):
        source = open_source(data)
    for line in describe_skipped(source):
        print(line)
    return source


def _data_options(options):
    return {"data_dir": options.data_dir, "manual_dir": options.manual_dir, "download": options.download}


def _default_sides(folder):
    """The size of prepared images, or the largest square in the first image of a folder, see `DataOptions`."""
    if is_prepared(folder):
        manifest = read_manifest(split_folder(folder, "train"))
        if manifest is not None:
            height, width, _ = prepared_shape(manifest["options"])
            return {"image_height": height, "image_width": width}
    path = list_images(str(folder), "train").paths[0]
    try:
        with open_image(path) as picture:
            return {"image_size": min(picture.size)}
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def reference_features(evaluator, source, options):
    """The `FeatureSet` of the reference; `source` is None for a file of statistics."""
    if source is None:
        return evaluator.read_statistics(options.reference)
    return evaluator.dataset_features(source, options.num_reference, refresh=options.refresh)


def describe_reference(evaluator, source, options):
    """Identifies a reference that no features are computed of: dict of JSON values."""
    return {"data": options.reference} if source is None else evaluator.describe_dataset(source)


def label_shares(run, source, options, num_classes):
    """Probabilities of the classes of the samples; None: equal ones, or no classes."""
    if options.labels == "uniform":
        return None
    if num_classes is None:
        raise UserError("--labels data: the generator has no classes; leave the option out.")
    if source is None or source.num_classes != num_classes or not has_classes_of(run, source.class_names):
        raise UserError("--labels data: the reference does not have the classes of the generator.")
    return tuple(class_distribution(source))
