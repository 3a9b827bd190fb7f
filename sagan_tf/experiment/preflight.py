"""What a config asks of the machine: what it has not the memory or the devices for is refused, and nothing made."""

import contextlib
import os

import tensorflow as tf

from sagan_tf.accelerate import compiled as native_operations
from sagan_tf.errors import UserError
from sagan_tf.networks.architectures import DISCRIMINATOR_MULTIPLIERS, GENERATOR_MULTIPLIERS, INITIAL_SIZE

# Float32 weights, their gradients, and Adam's two averages of these.
_BYTES_A_WEIGHT = 16


def check_memory(config):
    """Refuses a config that asks for more memory than the machine has.

    Args:
        config: `Config`.

    Raises:
        UserError: It does; the field that asks for most is named.
    """
    needs, available = bytes_needed(config), _memory_of_machine()
    total = sum(needs.values())
    if available is not None and total > available:
        largest = max(needs, key=needs.get)
        raise UserError(
            f"{largest}: the run needs {_gib(total)} of memory or more, most of it for this, and the machine has "
            f"{_gib(available)}. Make it smaller."
        )


def check_devices(config, strategy):
    """Refuses options that the devices here do not bear, which no config can know; compiles what is asked for.

    Args:
        config: `Config`.
        strategy: tf.distribute.Strategy of the run.

    Raises:
        UserError: They do not, or our own operations cannot be compiled.
    """
    hardware, replicas = config.hardware, strategy.num_replicas_in_sync
    if hardware.jit_compile and replicas > 1:
        raise UserError(
            f"hardware.jit_compile: works on one device, and here are {replicas}; "
            "set hardware.distribution to single, or hardware.jit_compile to false."
        )
    if not hardware.native_operations:
        return
    if replicas > 1:
        raise UserError(f"hardware.native_operations: works on one device, and here are {replicas}; set it to false.")
    if tf.config.list_physical_devices("GPU"):
        raise UserError(
            "hardware.native_operations: serves a CPU alone, and here is a GPU; set it to false, or hide GPUs by "
            "CUDA_VISIBLE_DEVICES=-1."
        )
    native_operations.load()


def bytes_needed(config):
    """Sums up, from below, the memory of a run.

    Args:
        config: `Config`.

    Returns:
        dict, the field that decides on it -> bytes.
    """
    data, training, output = config.data, config.training, config.output
    first, *multipliers = GENERATOR_MULTIPLIERS[data.image_size]
    g, d = config.generator.channels, config.discriminator.channels
    inputs = [first, *multipliers[:-1]]
    generator = sum(9 * g * g * (here * there + there * there) for here, there in zip(inputs, multipliers))
    multipliers = DISCRIMINATOR_MULTIPLIERS[data.image_size]
    # The hidden width of a block is that of its input or of its output.
    pairs = [(min(pair), max(pair)) for pair in zip(multipliers, multipliers[1:])]
    discriminator = sum(9 * d * d * (less * less + less * more) for less, more in pairs)
    dense = config.generator.latent_dim * INITIAL_SIZE**2 * first * g
    picture = data.image_size**2 * data.image_channels
    sample = 4 * config.generator.latent_dim + picture
    batch = training.batch_size * training.d_steps * training.accumulation_steps
    return {
        "generator.channels": _BYTES_A_WEIGHT * generator,
        "generator.latent_dim": _BYTES_A_WEIGHT * dense,
        "discriminator.channels": _BYTES_A_WEIGHT * discriminator,
        "training.batch_size": 4 * picture * batch,
        "output.sample_columns": output.sample_rows * output.sample_columns * sample,
    }


@contextlib.contextmanager
def exhaustion_named():
    """Says in one line that memory has run out, in place of TensorFlow's pages.

    Raises:
        UserError: It has.
    """
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"memory or disk has run out ({reason}). A smaller training.batch_size, with training.accumulation_steps "
            "for the same number of images, needs less."
        ) from None


def _memory_of_machine():
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on this system
        return None


def _gib(size):
    return f"{size / 2**30:.1f} GiB"
