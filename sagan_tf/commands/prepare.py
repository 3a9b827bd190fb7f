"""Prepares the splits of a data set for training."""

import os
import shlex

from sagan_tf.commands.options import image_sides
from sagan_tf.config.loading import QUICK_START
from sagan_tf.data import embedded
from sagan_tf.data.options import DataOptions
from sagan_tf.data.prepared import prepared_shape, split_folder
from sagan_tf.data.preparing import prepare
from sagan_tf.data.sources import translate_data_errors
from sagan_tf.errors import UserError, format_size, renamed_options
from sagan_tf.networks.architectures import (
    discriminator_attention_channels,
    find_architecture,
    generator_attention_channels,
)

_QUALITY = 95
_SKIPPED_SHOWN = 10
_DEFAULT_SIZE = 128  # px
# What training calls the same options.
_OPTIONS = {
    "Name your folder with --data.name PATH": "SOURCE may be the path of a folder", "data.name:": "SOURCE:",
    "data.data_dir": "--data_dir", "data.manual_dir": "--manual_dir", "data.download to true": "--download",
    "data.image_": "--image_", "data.resize": "--resize",
}  # fmt: skip


def prepare_splits(options):
    """Prepares each split of a data set, one after the other.

    Args:
        options: `PrepareOptions`.

    Yields:
        str, lines that say what was written, and the command that trains with it.

    Raises:
        UserError: On the first line, options contradict one another or no network has this image size; later, as
            `prepare`, or a record is damaged.
    """
    if options.quality is not None and options.encoding != "jpeg":
        raise UserError(f"--quality: {options.encoding} is lossless. Leave it out, or add --encoding jpeg.")
    quality = (options.quality or _QUALITY) if options.encoding == "jpeg" else None
    names = ("resize", "corrupt", "data_dir", "manual_dir", "download")
    settings = {name: getattr(options, name) for name in names} | _sides(options)
    settings["image_channels"] = int(options.image_channels)
    _check_size(next(iter(_sides(options))), DataOptions(name=options.source, **settings).image_shape)
    for split in options.split:
        data = DataOptions(name=options.source, split=split, **settings)
        with renamed_options(_OPTIONS), translate_data_errors(options.source):
            manifest, repaired = prepare(data, options.out, options.encoding, quality)
        yield _describe(split_folder(options.out, split), manifest, repaired)
        yield from _skipped_lines(manifest) if repaired is None else ()
    yield f"Train with: {shlex.join(_train_command(options))}"


def _sides(options):
    return image_sides(options) or {"image_size": _DEFAULT_SIZE}


def _check_size(option, image_shape):
    """Refuses a size that no network has, before hours of work."""
    try:
        find_architecture(image_shape[:2])
    except ValueError as error:
        raise UserError(f"--{option}: {error}") from None


def _train_command(options):
    name = str(options.out)
    if name in embedded.NAMES or name.startswith("-"):  # it would be taken for a data set, or for an option
        name = os.path.join(os.curdir, name)
    command = ["sagan", "train", "--data.name", name]
    split = "train" if "train" in options.split else options.split[0]
    values = {"split": split, "image_channels": int(options.image_channels), "resize": options.resize}
    changes = {name: value for name, value in values.items() if value != getattr(DataOptions(), name)}
    # The size always: the quick start has another than the default.
    for name, value in {**_sides(options), **changes}.items():
        command += [f"--data.{name}", str(value)]
    sizes = _attention_sizes(options)
    for network in () if sizes is None else ("generator", "discriminator"):
        command += [f"--{network}.attention_sizes", f"[{sizes}]"]
    return command


def _attention_sizes(options):
    """Sizes of the maps that get attention, such as `12,24`; None where the networks have those of the quick start."""
    image_size = DataOptions(name=options.source, **_sides(options)).image_shape[:2]
    maps = set(generator_attention_channels(image_size, 1)) & set(discriminator_attention_channels(image_size, 1))
    wanted = QUICK_START.generator.attention_sizes
    if maps.issuperset(wanted):
        return None
    return ",".join(str(size) for size in sorted(maps) if min(wanted) <= size <= 2 * max(wanted) and size % 2 == 0)


def _describe(path, manifest, repaired):
    options, classes = manifest["options"], manifest["class_names"]
    kinds = "no classes" if classes is None else f"{len(classes):,} class(es)"
    quality = "" if options.get("quality") is None else f", quality {options['quality']}"
    shape, size = prepared_shape(options), format_size(sum(shard["bytes"] for shard in manifest["shards"]))
    state = "complete" if repaired is None else "already complete, checked and left as it is"
    if repaired:
        state = f"complete again: {repaired:,} lost or damaged shard(s) written anew"
    return (
        f"{path}: {state}: {manifest['num_images']:,} images of {'x'.join(map(str, shape))}, {kinds}, "
        f"{options['encoding']}{quality}, {size}."
    )


def _skipped_lines(manifest):
    skipped = manifest["skipped"]
    if skipped:
        yield f"Skipped, all listed in prepared.json: {len(skipped):,} files or folders:"
        yield from (f"  {path}: {reason}" for path, reason in skipped[:_SKIPPED_SHOWN])
