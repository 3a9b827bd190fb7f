"""A run folder from checkpoints of other implementations."""

import dataclasses
import os

import keras
import numpy as np
import tensorflow as tf

from sagan_tf.config import Config
from sagan_tf.config.fields import DataConfig, DiscriminatorConfig, GeneratorConfig
from sagan_tf.conversion.files import read_state_dict
from sagan_tf.conversion.named_weights import set_weights
from sagan_tf.conversion.pytorch import convert_state_dict
from sagan_tf.errors import UserError
from sagan_tf.files.atomic import atomic_write
from sagan_tf.files.untrusted import bounded_variables
from sagan_tf.networks import build_discriminator, build_generator
from sagan_tf.runs.folder import Run
from sagan_tf.training import SAGAN

_SEVERAL = 4  # times the bytes of the tensors: they may be of half precision, and Keras adds variables of its own


def convert_checkpoints(generator_path, discriminator_path, folder, data_name):
    """Writes a run folder with the networks of PyTorch checkpoints, in which training may go on.

    Args:
        generator_path: File of the generator's state dict; see `conversion.files.read_state_dict`.
        discriminator_path: File of the discriminator's, or None: then a fresh one stands in the checkpoint.
        folder: The new run folder.
        data_name: Name of the data set that they were trained on, for the config.

    Returns:
        (Run, list of str): the folder, and lines that say what was found.

    Raises:
        UserError: A file cannot be read or converted, the two do not fit one another, or the folder is not empty.
    """
    generator = _convert(generator_path, "generator")
    discriminator = None if discriminator_path is None else _convert(discriminator_path, "discriminator")
    config = _config(generator, discriminator, folder, data_name)
    if os.path.isdir(folder) and os.listdir(folder):
        raise UserError(f"{folder}: is not empty. Name a new folder with --out.")
    first = _build(generator, generator_path, build_generator)
    lines = [_described(generator, generator_path)]
    if discriminator is None:
        second = _fresh(config, generator)
    else:
        second = _build(discriminator, discriminator_path, build_discriminator)
        lines.append(_described(discriminator, discriminator_path))
    _write(config, SAGAN(first, second, ema_decay=None), folder)
    return Run.open(folder), lines


def _convert(path, part):
    state = read_state_dict(path)
    for name, value in state.items():
        if value.dtype.kind not in "fiu" or not value.size or not np.isfinite(value).all():
            raise UserError(f"{path}: {name} does not hold finite numbers.")
    try:
        converted = convert_state_dict(state, str(path))
    except (ValueError, IndexError, TypeError, AttributeError) as error:  # names as they should be, and other shapes
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: its tensors do not fit together: {reason}") from None
    if converted.part != part:
        raise UserError(f"{path}: holds a {converted.part} where a {part} is wanted.")
    return converted


def _config(generator, discriminator, folder, data_name):
    g = generator.options
    if discriminator is not None:
        for name in ("image_size", "num_classes"):
            if discriminator.options[name] != g[name]:
                raise UserError(
                    f"the two do not fit: {name} is {g[name]} in the generator and {discriminator.options[name]} in "
                    "the discriminator."
                )
    shared = {"image_size", "num_classes"}
    d = {"channels": g["channels"], "attention_sizes": ()} if discriminator is None else discriminator.options
    defaults = Config()
    return Config(
        run=str(folder),
        data=DataConfig(name=data_name, image_size=g["image_size"], conditional=g["num_classes"] is not None),
        generator=GeneratorConfig(
            **{key: value for key, value in g.items() if key not in shared}, batch_normalization_momentum=0.9
        ),
        discriminator=DiscriminatorConfig(**{key: value for key, value in d.items() if key not in shared}),
        training=dataclasses.replace(defaults.training, ema_decay=None),
    )


def _build(converted, path, builder):
    own = sum(value.nbytes for value in converted.values.values())
    try:
        # What widths and classes it claims must be borne out by the tensors.
        with bounded_variables(_SEVERAL * own + (1 << 20)):
            network = builder(**converted.options)
    except ValueError as error:
        raise UserError(f"{path}: no network can be made of it: {error}") from None
    set_weights(network, converted.values, str(path), converted.left_over)
    return network


def _fresh(config, generator):
    keras.utils.set_random_seed(config.training.seed)
    options = {name: generator.options[name] for name in ("image_size", "num_classes")}
    return build_discriminator(**options, channels=config.discriminator.channels, attention_sizes=())


def _write(config, gan, folder):
    gan.compile()
    with Run.create_or_resume(folder, config) as run:
        manager = tf.train.CheckpointManager(tf.train.Checkpoint(model=gan), str(run.checkpoints_path), max_to_keep=1)
        manager.save(checkpoint_number=0)
        # Last and by renaming: a folder with a generator is whole.
        with atomic_write(run.generator_path) as temporary_path:
            gan.ema_generator.save(temporary_path)


def _described(converted, path):
    options = converted.options
    classes = "no classes" if options["num_classes"] is None else f"{options['num_classes']} classes"
    sizes = ", ".join(map(str, options["attention_sizes"])) or "no size"
    return (
        f"{path}: {converted.part} of {converted.layout}, {options['image_size']} px, base width "
        f"{options['channels']}, {classes}, attention at {sizes}; {len(converted.values)} tensors, none left over."
    )
