"""The memory that a config asks for at least, as plain sums: what no machine here could hold is refused unmade."""

import contextlib
import os

import tensorflow as tf

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
