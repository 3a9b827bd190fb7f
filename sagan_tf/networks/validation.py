"""Checks of the arguments of both networks."""

import numbers

from sagan_tf.errors import check_positive_int, format_image_size
from sagan_tf.networks.architectures import find_architecture


def check_image_size(image_size):
    """Returns (height, width) of an argument `image_size`, an int or such a pair, and its `Architecture`."""
    pair = tuple(image_size) if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(pair) != 2 or not all(isinstance(side, numbers.Integral) and side >= 1 for side in pair):
        raise ValueError(f"`image_size` must be an int >= 1, or two for height and width. Received: {image_size=}.")
    pair = tuple(map(int, pair))
    try:
        return pair, find_architecture(pair)
    except ValueError as error:
        raise ValueError(f"`image_size` {error}") from None


def check_network(
    image_size, channels, num_classes, image_channels, attention_sizes, attention_block, attention_channels
):
    """Checks the arguments that both networks share; `attention_channels` lists the feature maps of this one.

    `image_size` is a pair.

    Returns:
        set of the attention sizes in px.
    """
    for name, value in (("channels", channels), ("image_channels", image_channels), ("num_classes", num_classes)):
        if value is None and name == "num_classes":
            continue
        check_positive_int(name, value)
    if attention_block not in ("self_attention", "residual"):
        raise ValueError(f"`attention_block` must be 'self_attention' or 'residual'. Received: {attention_block=}.")
    available = attention_channels(image_size, channels)
    for size in attention_sizes:
        if size not in available:
            raise ValueError(
                f"`attention_sizes` must be among the network's feature maps, {sorted(available)} px for "
                f"images of {format_image_size(image_size)} px. Received: attention_sizes={tuple(attention_sizes)}."
            )
    return set(attention_sizes)
