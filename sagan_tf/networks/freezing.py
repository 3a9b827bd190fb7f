"""Freezes the blocks of a network that are nearest to the image."""

import contextlib
import re

from sagan_tf.layers import ConditionalBatchNormalization
from sagan_tf.layers.keras_compat import all_trainable, set_trainable


def part_of(name):
    """Part of a network that a layer or a weight belongs to, such as `block_8` of `block_8_conv_1/kernel`."""
    name = name.partition("/")[0]
    block = re.match(r"(block|attention)_[0-9]+(?=_|$)", name)
    return block[0] if block else name


def frozen_parts(network):
    """Parts of a network with weights that training does not change, a set of names as in `part_of`."""
    return {part_of(layer.name) for layer in network.layers if layer.weights and not layer.trainable}


def freeze_blocks(network, count, kind):
    """Freezes the `count` blocks of a network that are nearest to the image, with attention and output layers.

    Those of a discriminator are its first blocks, with the attention after each. Those of a generator are its last,
    with the attention between them and the output layers. These hold low-level features, which images of all kinds
    share. Weights, the vectors u of spectral normalization and the statistics of batch normalization stay as they are;
    the class tables of conditional batch normalization are trained on, because a new class starts there.

    Args:
        network: keras.Model of `build_generator` or `build_discriminator`.
        count: int >= 0; 0 freezes nothing.
        kind: `generator` or `discriminator`.

    Raises:
        ValueError: The network has fewer blocks.

    Source: discriminator: Mo et al. 2020 (FreezeD), https://arxiv.org/abs/2002.10964; generator: Zhao et al. 2020,
        https://arxiv.org/abs/2002.11810.
    """
    if count == 0:
        return
    layers = network.layers  # in topological order: all of a block comes before all of the next one
    parts = [part_of(layer.name) for layer in layers]
    blocks = list(dict.fromkeys(part for part in parts if part.startswith("block_")))
    if not 0 < count <= len(blocks):
        raise ValueError(
            f"The frozen blocks of the {kind} must be 0 to {len(blocks)}, the blocks that it has. Received: {count}."
        )
    if kind == "generator":
        frozen = layers[parts.index(blocks[-count]) :]
    else:
        frozen = layers[: parts.index(blocks[count] if count < len(blocks) else "output_relu")]
    for layer in frozen:
        if isinstance(layer, ConditionalBatchNormalization):
            set_trainable(layer.normalization, False)
        else:
            set_trainable(layer, False)


@contextlib.contextmanager
def unfrozen(networks):
    """Makes those of some networks trainable for a while that have no trainable weights."""
    with contextlib.ExitStack() as stack:
        for network in networks:
            if not network.trainable_weights:
                stack.enter_context(all_trainable(network))
        yield
