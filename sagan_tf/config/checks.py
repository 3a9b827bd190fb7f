"""Checks of a config: its values, and contradictions between fields."""

import math
from dataclasses import fields, is_dataclass

from sagan_tf.config.ranges import ConfigError, check_value
from sagan_tf.errors import format_image_size
from sagan_tf.networks.architectures import (
    discriminator_attention_channels,
    find_architecture,
    generator_attention_channels,
)

_MAX_GRID_PIXELS = 1 << 26  # fewer than make Pillow, and so the report, refuse an image


def flat_fields(config, prefix=""):
    """Yields (full path, value) of all fields of nested dataclasses."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from flat_fields(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


def check_config(config):
    """Raises `ConfigError` at the first field of a `Config` that is out of range or contradicts another."""
    for key, value in flat_fields(config):
        check_value(key, value)
    _check_architecture(config)
    _check_frozen_blocks(config)
    _check_attention(config)
    _check_optimizers(config)
    _check_training(config.training)
    _check_hardware(config)
    _check_output(config.output, config.data.image_shape[:2])
    _check_intervals(config)


def _check_architecture(config):
    data = config.data
    if (data.image_height is None) != (data.image_width is None):
        given, other = ("width", "height") if data.image_height is None else ("height", "width")
        raise ConfigError(f"data.image_{given}", f"must come with `data.image_{other}`.")
    try:
        find_architecture(data.image_shape[:2])
    except ValueError as error:
        key = "data.image_size" if data.image_height is None else "data.image_height"
        raise ConfigError(key, str(error)) from None
    if not config.attention.output_projection and config.attention.value_reduction != 1:
        raise ConfigError(
            "attention.value_reduction",
            "must be 1 when `attention.output_projection` is false, because nothing else restores the channels. "
            f"Got {config.attention.value_reduction}.",
        )


def _check_frozen_blocks(config):
    image_size = config.data.image_shape[:2]
    architecture = find_architecture(image_size)
    numbers = {
        "generator": len(architecture.generator) - 1,  # without the first map
        "discriminator": len(architecture.discriminator),
    }
    for name, number in numbers.items():
        frozen = getattr(config, name).frozen_blocks
        if frozen > number:
            raise ConfigError(
                f"{name}.frozen_blocks",
                f"must be at most {number}, the {name}'s blocks at {format_image_size(image_size)} px. Got {frozen}.",
            )
        if frozen and config.training.start_from is None:
            raise ConfigError(
                f"{name}.frozen_blocks",
                f"must be 0 without training.start_from: the blocks would stay as they are drawn. Got {frozen}.",
            )


def _check_attention(config):
    image_size = config.data.image_shape[:2]
    size_text = format_image_size(image_size)
    generator, discriminator = config.generator, config.discriminator
    for name, available in (
        ("generator", generator_attention_channels(image_size, generator.channels, generator.initial_channels)),
        ("discriminator", discriminator_attention_channels(image_size, discriminator.channels)),
    ):
        for size in getattr(config, name).attention_sizes:
            if size not in available:
                sizes = ", ".join(map(str, sorted(available)))
                raise ConfigError(
                    f"{name}.attention_sizes",
                    f"must be among the {name}'s feature maps, {sizes} px for {size_text} px images. Got {size}.",
                )
            if config.attention.block == "self_attention":
                shape = [side * size // min(image_size) for side in image_size]
                is_initial = name == "generator" and generator.initial_channels and size == min(available)
                field = "generator.initial_channels" if is_initial else f"{name}.channels"
                _check_block(config.attention, shape, available[size], name, field)


def _check_block(attention, shape, channels, network, channels_field):
    where = f"the {network}'s {format_image_size(shape)} px feature map"
    for field in ("key_reduction", "value_reduction"):
        reduction = getattr(attention, field)
        if reduction > channels:
            raise ConfigError(
                f"attention.{field}",
                f"must be at most {channels}, the channels of {where} (more with a larger `{channels_field}`). "
                f"Got {reduction}.",
            )
    if any(side % attention.pool_size for side in shape):
        raise ConfigError("attention.pool_size", f"must divide the size of {where}. Got {attention.pool_size}.")


def _check_optimizers(config):
    for name in ("generator", "discriminator"):
        options = getattr(config, f"{name}_optimizer")
        if options.schedule != "constant" and options.final_learning_rate > options.learning_rate:
            raise ConfigError(
                f"{name}_optimizer.final_learning_rate",
                f"must be at most the learning rate, {options.learning_rate}. Got {options.final_learning_rate}.",
            )


def _check_training(training):
    if training.share_fake_batch and training.accumulation_steps > 1:
        raise ConfigError(
            "training.share_fake_batch",
            f"must be false when training.accumulation_steps, {training.accumulation_steps}, is above 1.",
        )
    if training.new_classes != "mean" and training.start_from is None:
        raise ConfigError(
            "training.new_classes", f"must be mean without training.start_from. Got {training.new_classes}."
        )
    if training.ada_target and training.augmentation:
        raise ConfigError(
            "training.augmentation",
            f"must be [] when training.ada_target, {training.ada_target}, is above 0: ADA takes its place. "
            f"Got {list(training.augmentation)}.",
        )
    if training.ada_target and training.loss not in ("hinge", "non_saturating"):
        raise ConfigError(
            "training.ada_target",
            f"must be 0 with the loss {training.loss}, which does not separate the logits at 0 as hinge and "
            "non_saturating do.",
        )


def _check_hardware(config):
    hardware, batch_size = config.hardware, config.training.batch_size
    replicas = hardware.replicas or 1
    if batch_size % replicas:
        raise ConfigError(
            "training.batch_size", f"must be a multiple of hardware.replicas, {replicas}. Got {batch_size}."
        )
    if hardware.distribution == "tpu" and hardware.replicas is not None:
        raise ConfigError("hardware.replicas", f"must be null on a TPU, which uses all cores. Got {replicas}.")
    if hardware.distribution == "single" and replicas > 1:
        raise ConfigError(
            "hardware.replicas", f"must be 1 or null when hardware.distribution is single. Got {replicas}."
        )
    if (
        hardware.distribution == "tpu"
        or replicas > 1
        or (hardware.distribution, hardware.replicas) == ("mirrored", None)
    ):
        if hardware.native_operations:
            raise ConfigError(
                "hardware.native_operations",
                "must be false on several replicas. Set hardware.distribution to single, or this to false.",
            )
        if hardware.jit_compile is True and hardware.distribution == "tpu":
            raise ConfigError("hardware.jit_compile", "must be auto or false on a TPU, which compiles the step itself.")
        if hardware.jit_compile is True and config.generator.batch_statistics == "global":
            raise ConfigError(
                "hardware.jit_compile",
                "must be auto or false on several replicas while generator.batch_statistics is global: XLA cannot "
                "compile what they exchange. Set generator.batch_statistics to local, or this to auto.",
            )
    if hardware.native_operations and hardware.jit_compile is True:
        raise ConfigError(
            "hardware.native_operations",
            "must be false when hardware.jit_compile is true: XLA cannot run them. Set one of them to false.",
        )
    if hardware.native_operations and hardware.precision not in ("mixed_bfloat16", "auto"):
        raise ConfigError(
            "hardware.native_operations",
            f"must be false in {hardware.precision}. Set hardware.precision to mixed_bfloat16, or this to false.",
        )


def _check_output(output, image_size):
    rows, columns = output.sample_rows, output.sample_columns
    pixels = rows * columns * math.prod(image_size)
    if pixels > _MAX_GRID_PIXELS:
        raise ConfigError(
            "output.sample_columns",
            f"makes an image of {pixels / 1e6:.0f} megapixels with {rows} rows of {format_image_size(image_size)} px; "
            f"at most {_MAX_GRID_PIXELS / 1e6:.0f} are possible. Got {columns}.",
        )


def _check_intervals(config):
    output, steps_per_execution = config.output, config.hardware.steps_per_execution
    if output.checkpoint_interval % output.log_interval:
        raise ConfigError(
            "output.checkpoint_interval",
            f"must be a multiple of output.log_interval, {output.log_interval}. Got {output.checkpoint_interval}.",
        )
    for key, steps in (
        ("training.steps", config.training.steps),
        ("training.ema_statistics_interval", config.training.ema_statistics_interval),
        ("output.log_interval", output.log_interval),
        ("output.sample_interval", output.sample_interval),
        ("output.checkpoint_interval", output.checkpoint_interval),
        ("evaluation.interval", config.evaluation.interval),
    ):
        if steps % steps_per_execution:
            raise ConfigError(
                key, f"must be a multiple of hardware.steps_per_execution, {steps_per_execution}. Got {steps}."
            )
