"""Widths of the networks by image size, as multiples of the base width `channels`.

The keys of the tables are sizes of square images in px. Images of other sizes have the blocks of one of them, which
double a map of 3 to 7 px on its smaller side up to the image. An image size is a pair, (height, width) in px.

128 px follows the authors' code (generator.py and discriminator.py of brain-research/self-attention-gan); 32, 64 and
256 px follow PyTorch-StudioGAN (src/models/resnet.py).
"""

import heapq
import itertools
import math
from typing import NamedTuple

from sagan_tf.errors import format_image_size

# Entry 0 is the first map, of the dense layer (4x4 at these sizes), unless `initial_channels` is given; each following
# entry is a residual block that doubles the size.
GENERATOR_MULTIPLIERS = {
    32: (4, 4, 4, 4),
    64: (16, 8, 4, 2, 1),
    128: (16, 16, 8, 4, 2, 1),
    256: (16, 16, 8, 8, 4, 2, 1),
}

# One entry per residual block; the table below says which of them halve the size.
DISCRIMINATOR_MULTIPLIERS = {
    32: (2, 2, 2, 2),
    64: (1, 2, 4, 8, 16),
    128: (1, 2, 4, 8, 16, 16),
    256: (1, 2, 4, 8, 8, 16, 16),
}
DISCRIMINATOR_DOWNSAMPLING = {
    32: (True, True, False, False),
    64: (True, True, True, True, False),
    128: (True, True, True, True, True, False),
    256: (True, True, True, True, True, True, False),
}

INITIAL_SIZE = 4  # px: the first map at the sizes above
_INITIAL_SIDES = range(3, 8)  # px: the smaller side of that map
_MAX_SIDE = 1024  # px
_ASPECT_WEIGHT = 4  # of a change of the aspect against that of a side, in the search for the nearest size


class Architecture(NamedTuple):
    """The blocks of both networks for one image size.

    Args:
        generator, discriminator: Multiples of the base width, as in the tables.
        downsampling: Which blocks of the discriminator halve the map.
        initial_shape: (height, width) of the map that the generator starts from.
    """

    generator: tuple[int, ...]
    discriminator: tuple[int, ...]
    downsampling: tuple[bool, ...]
    initial_shape: tuple[int, int]


def find_architecture(image_size):
    """Returns the `Architecture` with the smallest initial map for an image size.

    Raises:
        ValueError: There is none; names the nearest sizes that have one.
    """
    blocks = _find_blocks(*image_size)
    if blocks is None:
        others = " or ".join(format_image_size(size) for size in _nearest_sizes(*image_size))
        raise ValueError(
            "must have a smaller side of 3 to 7 times 8, 16, 32 or 64 px and a larger side that is a multiple of the "
            f"same number, at most {_MAX_SIDE:,} px; the nearest sizes are {others} px. "
            f"Got {format_image_size(image_size)}."
        )
    tables = (GENERATOR_MULTIPLIERS, DISCRIMINATOR_MULTIPLIERS, DISCRIMINATOR_DOWNSAMPLING)
    initial_shape = tuple(side * INITIAL_SIZE // blocks for side in image_size)
    return Architecture(*(table[blocks] for table in tables), initial_shape)


def has_architecture(image_size):
    """Whether there are networks for an image size."""
    return _find_blocks(*image_size) is not None


def _find_blocks(height, width):
    """The key of the tables for an image size; None if no blocks make it."""
    for blocks in sorted(GENERATOR_MULTIPLIERS, reverse=True):
        scale = blocks // INITIAL_SIZE
        first = min(height, width) // scale
        if first >= _INITIAL_SIDES[0] and height % scale == width % scale == 0:
            return blocks if first in _INITIAL_SIDES and max(height, width) <= _MAX_SIDE else None
    return None


def _nearest_sizes(height, width):
    """The two image sizes with an architecture that change height, width and aspect least."""

    def change(size):
        rows, columns = math.log(size[0] / height), math.log(size[1] / width)
        return abs(rows) + abs(columns) + _ASPECT_WEIGHT * abs(rows - columns)

    step = min(GENERATOR_MULTIPLIERS) // INITIAL_SIZE
    sides = range(step, _MAX_SIDE + 1, step)
    return heapq.nsmallest(2, (size for size in itertools.product(sides, sides) if _find_blocks(*size)), change)


def generator_attention_channels(image_size, channels, initial_channels=None):
    """Feature maps of the generator that can get attention: dict, size in px of the smaller side -> channels."""
    architecture = find_architecture(image_size)
    first = min(architecture.initial_shape)
    sizes = {first * 2**i: channels * multiplier for i, multiplier in enumerate(architecture.generator)}
    return sizes | {first: initial_channels or sizes[first]}


def discriminator_attention_channels(image_size, channels):
    """Feature maps of the discriminator that can get attention: dict, size in px of the smaller side -> channels.

    Where several blocks end at one size, attention follows the first of them.
    """
    architecture = find_architecture(image_size)
    sizes, size = {}, min(image_size)
    for multiplier, downsampling in zip(architecture.discriminator, architecture.downsampling):
        size = size // 2 if downsampling else size
        sizes.setdefault(size, channels * multiplier)
    return sizes
