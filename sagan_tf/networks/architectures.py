"""Widths of the networks by image size, as multiples of the base width `channels`.

128 px follows the authors' code (generator.py and discriminator.py of brain-research/self-attention-gan); 32, 64 and
256 px follow PyTorch-StudioGAN (src/models/resnet.py).
"""

# Entry 0 is the 4x4 map of the dense layer, unless `initial_channels` is given; each following entry is a residual
# block that doubles the size.
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

INITIAL_SIZE = 4  # px: the feature map that the generator starts from


def generator_attention_channels(image_size, channels):
    """Feature maps of the generator that can get attention: dict, size in px -> channels."""
    multipliers = GENERATOR_MULTIPLIERS[image_size]
    return {INITIAL_SIZE * 2**i: channels * multiplier for i, multiplier in enumerate(multipliers)}


def discriminator_attention_channels(image_size, channels):
    """Feature maps of the discriminator that can get attention: dict, size in px -> channels.

    Where several blocks end at one size, attention follows the first of them.
    """
    sizes, size = {}, image_size
    blocks = zip(DISCRIMINATOR_MULTIPLIERS[image_size], DISCRIMINATOR_DOWNSAMPLING[image_size])
    for multiplier, downsampling in blocks:
        size = size // 2 if downsampling else size
        sizes.setdefault(size, channels * multiplier)
    return sizes
