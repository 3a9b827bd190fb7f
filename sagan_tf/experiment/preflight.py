"""Checks memory, devices and the length of the average before a run starts."""

import contextlib
import math
import os

import tensorflow as tf

from sagan_tf.accelerate import compiled
from sagan_tf.errors import UserError, format_size, summarize
from sagan_tf.networks.architectures import find_architecture
from sagan_tf.training.distribution import resolve_jit_compile, xla_obstacle

# Float32 weight and gradient, and Adam's two moments.
_BYTES_PER_WEIGHT = 16
# A run on CIFAR-10 at 0.7 %: a Fréchet distance of 2.3, and 1.5 with recomputed batch statistics.
_INITIAL_SHARE = 0.001
_TOO_BIG = ("array is too big", "Maximum allowed dimension exceeded")  # a ValueError of NumPy


def check_memory(config):
    """Raises UserError if a run needs more memory than the machine has; names the field that needs most."""
    needs, available = bytes_needed(config), _machine_memory_bytes()
    total = sum(needs.values())
    if available is not None and total > available:
        largest = max(needs, key=needs.get)
        raise UserError(
            f"{largest}: the run needs at least {format_size(total)} of memory, most of it for this option, and the "
            f"machine has {format_size(available)}. Choose a smaller value."
        )


def warn_of_short_average(training):
    """Prints a warning if the averaged generator still holds initial weights at the end of training."""
    if training.ema_decay is None or training.ema_start_step or training.start_from:
        return
    share = training.ema_decay**training.steps
    if share > _INITIAL_SHARE:
        print(
            f"Warning: after {training.steps:,} steps, {share:.1%} of the averaged generator is still its initial "
            "weights. Set a lower training.ema_decay, or training.ema_start_step, such as 1000."
        )


def check_devices(config, strategy):
    """Raises UserError for options that these devices do not support; compiles the native operations if asked for.

    Returns whether XLA compiles the step.
    """
    hardware, batch_size, replicas = config.hardware, config.training.batch_size, strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise UserError(
            f"training.batch_size: {batch_size} cannot be split evenly over {replicas} replicas; make it a multiple of "
            f"{replicas}."
        )
    if hardware.native_operations and replicas > 1:
        raise UserError(
            f"hardware.native_operations: works on one device only, and this run has {replicas}; set "
            "hardware.distribution to single, or hardware.native_operations to false."
        )
    if hardware.native_operations:
        if tf.config.list_physical_devices("GPU"):
            raise UserError(
                "hardware.native_operations: works on CPUs only, and this machine has a GPU; set it to false, or hide "
                "the GPUs with CUDA_VISIBLE_DEVICES=-1."
            )
        compiled.load()
    is_global, training = config.generator.batch_statistics == "global", config.training
    obstacle = xla_obstacle(strategy, is_global, training.lecam_weight, training.ada_target)
    try:
        return resolve_jit_compile(hardware.jit_compile, obstacle)
    except ValueError:
        raise UserError(f"hardware.jit_compile: must be auto or false here: {obstacle}.") from None


def bytes_needed(config):
    """Estimates the memory of a run from below: dict, config field that determines it -> bytes."""
    data, output = config.data, config.output
    g, d = config.generator.channels, config.discriminator.channels
    architecture = find_architecture(data.image_shape[:2])
    first, *widths = (g * multiplier for multiplier in architecture.generator)
    first = config.generator.initial_channels or first
    generator_weights = sum(9 * outputs * (inputs + outputs) for inputs, outputs in zip([first, *widths], widths))
    multipliers = architecture.discriminator
    # The hidden width of a block is its input's or its output's.
    blocks = [sorted(block) for block in zip(multipliers, multipliers[1:])]
    discriminator_weights = sum(9 * d * d * (narrow * narrow + narrow * wide) for narrow, wide in blocks)
    dense_weights = config.generator.latent_dim * math.prod(architecture.initial_shape) * first
    image_values = math.prod(data.image_shape)
    sample_bytes = 4 * config.generator.latent_dim + image_values
    return {
        "generator.channels": _BYTES_PER_WEIGHT * generator_weights,
        "generator.latent_dim": _BYTES_PER_WEIGHT * dense_weights,
        "discriminator.channels": _BYTES_PER_WEIGHT * discriminator_weights,
        "training.batch_size": 4 * image_values * config.training.images_per_step,
        "output.sample_columns": output.sample_rows * output.sample_columns * sample_bytes,
    }


@contextlib.contextmanager
def translate_memory_errors(advice):
    """Raises UserError, in place of NumPy's and TensorFlow's errors, if memory runs out; `advice` is what to do."""
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError, ValueError) as error:
        if isinstance(error, ValueError) and not str(error).startswith(_TOO_BIG):
            raise
        raise UserError(f"out of memory or disk space ({summarize(error)}). {advice}") from None


def _machine_memory_bytes():
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on this system
        return None
