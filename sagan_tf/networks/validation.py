"""Checks of the arguments of both networks."""

import numbers

from sagan_tf.errors import check_positive_int, format_image_size
from sagan_tf.networks.architectures import find_architecture


def check_image_size(image_size):
    """Checks the argument `image_size` of both networks.

    Args:
        image_size: int, px, or (height, width).

    Returns:
        ((height, width), `Architecture`).

    Raises:
        ValueError: It is neither, or no network has this size.
    """
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
    """Checks the arguments that both networks share.

    Args:
        image_size: (height, width), px.
        channels, num_classes, image_channels, attention_sizes, attention_block: As in `build_generator`.
        attention_channels: Function of `image_size` and `channels` that gives the feature maps of this network: dict,
            size in px -> channels.

    Returns:
        set of the attention sizes in px.

    Raises:
        ValueError: An argument is out of its range, or there is no feature map of an attention size.
    """
    check_positive_int("channels", channels)
    check_positive_int("image_channels", image_channels)
    if num_classes is not None:
        check_positive_int("num_classes", num_classes)
    if attention_block not in ("self_attention", "residual"):
        raise ValueError(f"`attention_block` must be 'self_attention' or 'residual'. Received: {attention_block=}.")
    if not isinstance(attention_sizes, (tuple, list, set, frozenset)):
        raise ValueError(f"`attention_sizes` must be a tuple of sizes in px. Received: {attention_sizes=}.")
    available = attention_channels(image_size, channels)
    for size in attention_sizes:
        if size not in available:
            raise ValueError(
                f"`attention_sizes` must be among the network's feature maps, {sorted(available)} px for "
                f"images of {format_image_size(image_size)} px. Received: attention_sizes={tuple(attention_sizes)}."
            )
    return set(attention_sizes)
