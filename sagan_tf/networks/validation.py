"""Checks of the arguments of both networks."""

from sagan_tf.networks.architectures import GENERATOR_MULTIPLIERS


def check_network(
    image_size, channels, num_classes, image_channels, attention_sizes, attention_block, attention_channels
):
    """Checks the arguments that both networks share; `attention_channels` lists the feature maps of this one.

    Returns:
        set of the attention sizes in px.
    """
    if image_size not in GENERATOR_MULTIPLIERS:
        raise ValueError(f"`image_size` must be one of {sorted(GENERATOR_MULTIPLIERS)}. Received: {image_size=}.")
    for name, value in (("channels", channels), ("image_channels", image_channels), ("num_classes", num_classes)):
        if value is None and name == "num_classes":
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"`{name}` must be an integer >= 1. Received: {name}={value!r}.")
    if attention_block not in ("self_attention", "residual"):
        raise ValueError(f"`attention_block` must be 'self_attention' or 'residual'. Received: {attention_block=}.")
    available = attention_channels(image_size, channels)
    for size in attention_sizes:
        if size not in available:
            raise ValueError(
                f"`attention_sizes` must be among the network's feature maps, {sorted(available)} px for "
                f"image_size={image_size}. Received: attention_sizes={tuple(attention_sizes)}."
            )
    return set(attention_sizes)
