"""State dicts of mmagic (mmgeneration): names of layers, and settings that a file does not hold.

Source: its configs/sagan, and its `SNConditionNorm` for class gains.
"""

import re

import numpy as np

from sagan_tf.errors import UserError

# Our names of layers -> theirs.
LAYOUT = {
    "first": ("from_rgb",),  # Block of the discriminator before those of the list.
    "list": "conv_blocks",
    "nesting": ("",),
    "dense": "noise2feat",
    "blocks": {
        "conv_1": "conv_1.conv", "conv_2": "conv_2.conv", "skip": "shortcut.conv",
        "norm_1": "norm_1", "norm_2": "norm_2",
    },
    "attention": {"query": "theta.conv", "key": "phi.conv", "value": "g.conv", "projection": "o.conv"},
    "gamma": "gamma",
    "output_norm": "to_rgb.bn",
    "output_conv": "to_rgb.conv",
    "output_dense": "decision",
    "embedding": "proj_y",
}  # fmt: skip
# Of batch normalization. The schedule of BigGAN has the epsilon of BigGAN-PyTorch, and plain class tables.
EPSILON, _SCHEDULE_EPSILON = 1e-4, 1e-5
# Axes of our weights that stand for the channels of the image, of both networks.
_COLOR_AXES = {
    "output_conv/kernel": 3, "output_conv/bias": 0, "output_conv/u": 0,
    "block_1_conv_1/kernel": 2, "block_1_skip/kernel": 2,
}  # fmt: skip
_PLAIN_MEAN, _NORMALIZED_MEAN = 0.4, 0.8  # of stored gains, above which they may be whole; the latter per RMS


def complete(reader, part, options, channel_order, relu_in_place):
    """Returns the options that a file of mmagic does not hold, and makes the images RGB.

    Args:
        reader: Reader of its tensors, all converted.
        part: `generator` or `discriminator`.
        options: dict, known arguments of `build_generator` or `build_discriminator`.
        channel_order, relu_in_place: As in `pytorch.convert_state_dict`.

    Raises:
        UserError: One of them is missing, or the network cannot be expressed.
    """
    if channel_order is None:
        raise UserError(
            f"{reader.source}: a file of mmagic does not say the order of the channels: --channel_order bgr for what "
            "it trained, rgb for what it converted from StudioGAN."
        )
    if channel_order == "bgr":
        for name, axis in _COLOR_AXES.items():
            if name in reader.values:
                reader.values[name] = np.flip(reader.values[name], axis)
    if part == "generator":
        if reader.has_normalized_tables is not None:
            _check_gains(reader)
        is_plain = options["spectral_normalization"] and reader.has_normalized_tables is False
        return {"batch_normalization_epsilon": _SCHEDULE_EPSILON} if is_plain else {}
    if options["image_size"] == 64:
        raise UserError(
            f"{reader.source}: a discriminator of mmagic for 64 px cannot be converted: it halves the map in all five "
            "blocks, ours in four."
        )
    if relu_in_place is None:
        raise UserError(
            f"{reader.source}: a file of mmagic does not say whether its ReLUs work in place: --relu_in_place no for "
            "names with woReLUinplace, yes for those with wReLUinplace or converted from StudioGAN."
        )
    return {"activate_skip": relu_in_place}


def _check_gains(reader):
    """Raises UserError unless class gains are stored less 1: with other types of `init_cfg` they start from 1."""
    gains = (value for name, value in reader.values.items() if re.search("_norm_[12]/gamma$", name))
    stored = np.concatenate([np.ravel(gain) - 1 for gain in gains])
    # Over sigma, only the ratio of mean and size is left of what they started from.
    limit = _NORMALIZED_MEAN * np.sqrt(np.mean(stored**2)) if reader.has_normalized_tables else _PLAIN_MEAN
    if np.mean(stored) > limit:
        raise UserError(
            f"{reader.source}: its class gains are {np.mean(stored):.2f} in the mean, not around 0: they may lack the "
            "1 to add, as with `init_cfg` of other types than BigGAN and studio, and cannot be converted."
        )
