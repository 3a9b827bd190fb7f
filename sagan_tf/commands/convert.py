"""Makes a run folder from checkpoints of other implementations, and the reverse."""

import contextlib
import os

import keras
import numpy as np
import tensorflow as tf

from sagan_tf.commands.options import ConvertOptions
from sagan_tf.commands.subjects import open_subject
from sagan_tf.config import Config
from sagan_tf.config.fields import AttentionConfig, DataConfig, DiscriminatorConfig, GeneratorConfig, TrainingConfig
from sagan_tf.conversion import heykeetae
from sagan_tf.conversion.biggan_pytorch import discriminator_arguments, generator_arguments, make_state_dict
from sagan_tf.conversion.files import read_state_dict, write_state_dict
from sagan_tf.conversion.pytorch import convert_state_dict
from sagan_tf.errors import UserError, renamed_options, summarize
from sagan_tf.experiment.build import network_options
from sagan_tf.experiment.checkpoints import make_checkpoint
from sagan_tf.experiment.loading import restore_networks
from sagan_tf.files.atomic import new_contents
from sagan_tf.files.untrusted import bounded_variables
from sagan_tf.generation.saving import save_generator
from sagan_tf.networks import build_discriminator, build_generator
from sagan_tf.networks.named_weights import set_weights, weights_by_name
from sagan_tf.runs.folder import Run
from sagan_tf.training import SAGAN

_SHARED_OPTIONS = ("image_size", "num_classes")
_MAX_GROWTH = 4  # Bytes of variables per byte of tensors: these may be half precision, and Keras adds variables.


def convert(options):
    """Converts what `ConvertOptions` name; returns lines that say what was written. Raises UserError as the two below.

    Args:
        options: `ConvertOptions`.
    """
    if options.to is not None:
        for name in ("data", "channel_order", "relu_in_place"):
            if getattr(options, name) != getattr(ConvertOptions, name):
                raise UserError(f"--{name}: is for checkpoints that are read; leave it out with --to.")
        return write_biggan_pytorch(options.generator, options.discriminator, options.out)
    in_place = None if options.relu_in_place is None else options.relu_in_place == "yes"
    run, lines = convert_checkpoints(
        options.generator, options.discriminator, options.out, options.data, options.channel_order, in_place
    )
    return [*lines, f"Run folder: {run.path}"]


def convert_checkpoints(generator_path, discriminator_path, folder, data_name, channel_order=None, relu_in_place=None):
    """Writes a run folder with the networks of PyTorch checkpoints, from which training can continue.

    Args:
        generator_path: File of the generator's state dict; see `conversion.files.read_state_dict`.
        discriminator_path: File of the discriminator's; None for a newly initialized discriminator.
        folder: Path of the new run folder.
        data_name: Name of the data set that they were trained on, for the config.
        channel_order, relu_in_place: What a file of mmagic does not say; see `convert_state_dict`.

    Returns:
        (Run, list of str): the folder, and a description of each converted network.

    Raises:
        UserError: A file cannot be read or converted, the networks do not match, or the folder is not empty.
    """
    state = _read_state(generator_path)
    if heykeetae.is_heykeetae(state):
        given = (discriminator_path, channel_order, relu_in_place)
        return _convert_heykeetae(state, generator_path, folder, data_name, given)
    converted = _convert_network(state, generator_path, "generator", channel_order)
    converted_discriminator = None
    if discriminator_path is not None:
        state = _read_state(discriminator_path)
        converted_discriminator = _convert_network(
            state, discriminator_path, "discriminator", channel_order, relu_in_place
        )
    config = _make_config(converted, converted_discriminator, folder, data_name)
    _check_run_folder(folder)
    generator = _build(converted, generator_path, build_generator)
    lines = [_describe(converted, generator_path)]
    if converted_discriminator is None:
        discriminator = _build_new_discriminator(config, converted)
    else:
        discriminator = _build(converted_discriminator, discriminator_path, build_discriminator)
        lines.append(_describe(converted_discriminator, discriminator_path))
    _write_run(config, SAGAN(generator, discriminator, ema_decay=None), folder)
    return Run.open(folder), lines


def write_biggan_pytorch(run_path, discriminator_path, folder):
    """Writes the networks of a run as state dicts of BigGAN-PyTorch.

    Args:
        run_path: Run folder. Without checkpoints it has no discriminator.
        discriminator_path: None: the run has both networks.
        folder: Path of the new folder: `G_ema.pth`, the averaged generator, and `D.pth`.

    Returns:
        list of str, a line for each network: its file and how to build it there, or why it is left out.

    Raises:
        UserError: The run cannot be read, BigGAN-PyTorch has no such generator, or the folder is not empty.
    """
    if discriminator_path is not None:
        raise UserError(f"{discriminator_path}: --to takes one run folder, which has both networks.")
    run = open_subject(run_path)
    _check_empty(folder)
    has_discriminator = bool(run.checkpoint_steps())
    networks = restore_networks(run, discriminator=has_discriminator)  # both of one step, also while the run trains
    generator_options, discriminator_options = network_options(run.config(), networks.num_classes)
    try:
        arguments = generator_arguments(generator_options)
    except UserError as error:
        raise UserError(f"{run_path}: its generator cannot be converted: {error}") from None
    with new_contents(folder, last="D.pth") as new:
        lines = [_write(networks.generator, "Generator", arguments, new, folder, "G_ema.pth")]
        if not has_discriminator:
            return [*lines, "The run has no checkpoint and so no discriminator."]
        try:
            arguments = discriminator_arguments(discriminator_options)
        except UserError as error:
            return [*lines, f"The discriminator is left out: {error}"]
        return [*lines, _write(networks.discriminator, "Discriminator", arguments, new, folder, "D.pth")]


def _write(network, name, arguments, temporary, folder, file_name):
    write_state_dict(temporary / file_name, make_state_dict(weights_by_name(network), arguments["resolution"]))
    path = os.path.join(folder, file_name)
    return f"{path}: {name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def _check_run_folder(folder):
    with renamed_options({"--run": "--out"}):
        Run(folder).check_path()
    _check_empty(folder)


def _check_empty(folder):
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise UserError(f"{folder}: a file is in the way. Name a new folder with --out.")
    if os.path.isdir(folder) and os.listdir(folder):
        raise UserError(f"{folder}: is not empty. Name a new folder with --out.")


def _read_state(path):
    state = read_state_dict(path)
    for name, value in state.items():
        if value.dtype.kind not in "fiu" or not value.size or not np.isfinite(value).all():
            raise UserError(f"{path}: {name} must contain finite numbers only.")
    return {name.removeprefix("module."): value for name, value in state.items()}  # of DataParallel


@contextlib.contextmanager
def _named_shape_errors(path):
    try:
        yield
    except (ValueError, IndexError, TypeError, AttributeError) as error:  # Known names with unexpected shapes.
        raise UserError(f"{path}: its tensors do not fit together: {summarize(error)}") from None


def _convert_heykeetae(state, path, folder, data_name, given):
    """As `convert_checkpoints`, for a run folder with a generator alone."""
    if any(value is not None for value in given):
        raise UserError(f"{path}: of heykeetae's Self-Attention-GAN the generator alone is read, without options.")
    with _named_shape_errors(path), _bounded(state):
        generator = heykeetae.convert_generator(state, str(path))
    _check_run_folder(folder)
    latent_dim, channels = generator.input.shape[-1], generator.output.shape[-1]
    config = Config(
        run=str(folder),
        data=DataConfig(name=data_name, image_size=heykeetae.IMAGE_SIZE, image_channels=channels, conditional=False),
        generator=GeneratorConfig(
            latent_dim=latent_dim, attention_sizes=heykeetae.ATTENTION_SIZES, spectral_normalization=False
        ),
        attention=AttentionConfig(
            **{name: value for name, value in heykeetae.ATTENTION.items() if name != "use_bias"},
            spectral_normalization=False,
        ),
        training=TrainingConfig(ema_decay=None),
    )
    with _new_run(folder, config) as run:
        save_generator(generator, run.generator_path, {"step": 0})
    line = (
        f"{path}: generator of heykeetae's Self-Attention-GAN, {heykeetae.IMAGE_SIZE} px, {latent_dim} latent "
        "dimensions, no classes, attention at 16, 32; it makes images and cannot be trained further."
    )
    return Run.open(folder), [line]


def _convert_network(state, path, part, channel_order, relu_in_place=None):
    with _named_shape_errors(path):
        converted = convert_state_dict(state, str(path), part, channel_order, relu_in_place)
    if converted.part != part:
        raise UserError(f"{path}: contains a {converted.part}, expected a {part}.")
    return converted


def _make_config(generator, discriminator, folder, data_name):
    options = generator.options
    if discriminator is None:
        discriminator_options = {"channels": options["channels"], "attention_sizes": ()}
    else:
        discriminator_options = discriminator.options
        for name in _SHARED_OPTIONS:
            if discriminator_options[name] != options[name]:
                raise UserError(
                    f"the networks do not match: {name} is {options[name]} in the generator and "
                    f"{discriminator_options[name]} in the discriminator."
                )
    return Config(
        run=str(folder),
        data=DataConfig(
            name=data_name, image_size=options["image_size"], conditional=options["num_classes"] is not None
        ),
        generator=GeneratorConfig(**_own_options(options), batch_normalization_momentum=0.9),
        discriminator=DiscriminatorConfig(**_own_options(discriminator_options)),
        training=TrainingConfig(ema_decay=None),
    )


def _own_options(options):
    return {name: value for name, value in options.items() if name not in _SHARED_OPTIONS}


def _build(converted, path, builder):
    try:
        with _bounded(converted.values):
            network = builder(**converted.options)
    except ValueError as error:
        raise UserError(f"{path}: no network can be built from it: {error}") from None
    set_weights(network, converted.values, str(path), converted.unused)
    return network


def _bounded(tensors):
    """Keeps a few bytes of a file, which widths and classes come from, from claiming a giant network."""
    return bounded_variables(_MAX_GROWTH * sum(value.nbytes for value in tensors.values()) + (1 << 20))


def _build_new_discriminator(config, generator):
    keras.utils.set_random_seed(config.training.seed)
    options = {name: generator.options[name] for name in _SHARED_OPTIONS}
    return build_discriminator(**options, channels=config.discriminator.channels, attention_sizes=())


def _write_run(config, gan, folder):
    gan.compile()
    with _new_run(folder, config) as run:
        manager = tf.train.CheckpointManager(make_checkpoint(gan), str(run.checkpoints_path), max_to_keep=1)
        manager.save(checkpoint_number=0)
        save_generator(gan.ema_generator, run.generator_path, {"step": 0})


@contextlib.contextmanager
def _new_run(folder, config):
    """Yields a `Run` that becomes one in `folder` when it is complete: without weights it would be trained anew."""
    with new_contents(folder, last="config.yaml") as new, Run.create_or_resume(new, config) as run:
        yield run


def _describe(converted, path):
    options = converted.options
    classes = "no classes" if options["num_classes"] is None else f"{options['num_classes']} classes"
    sizes = ", ".join(map(str, options["attention_sizes"])) or "no size"
    return (
        f"{path}: {converted.part} of {converted.layout}, {options['image_size']} px, base width "
        f"{options['channels']}, {classes}, attention at {sizes}; all {len(converted.values)} tensors used."
    )
