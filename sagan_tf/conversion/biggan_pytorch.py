"""Makes state dicts of BigGAN-PyTorch from our networks, the inverse of `pytorch.py`.

The networks are `Generator` and `Discriminator` of its BigGAN.py without a shared embedding of classes.

Source: https://github.com/ajbrock/BigGAN-PyTorch, BigGAN.py (widths, places of attention) and layers.py.
"""

import math

import numpy as np

from sagan_tf.conversion.pytorch import LAYOUTS, first_map_order
from sagan_tf.errors import UserError, format_image_size
from sagan_tf.networks.architectures import DISCRIMINATOR_DOWNSAMPLING, GENERATOR_MULTIPLIERS, INITIAL_SIZE
from sagan_tf.networks.validation import check_image_size

_NAMES = LAYOUTS["biggan_pytorch"]
_STATISTICS = {"moving_mean": "stored_mean", "moving_variance": "stored_var"}
_ATTENTION = {
    "key_reduction": 8, "value_reduction": 2, "pool_size": 2, "output_projection": True, "spectral_normalization": True,
}  # fmt: skip
# Channels of the 4x4 map as multiples of our base width, and our base width as a multiple of theirs.
_INITIAL_MULTIPLES = {32: 4, 64: 8, 128: 16, 256: 16}
_GENERATOR_WIDTHS = {32: 1, 64: 2, 128: 1, 256: 1}
_DISCRIMINATOR_WIDTHS = {32: 2, 64: 1, 128: 1, 256: 1}


def generator_arguments(options):
    """Checks that BigGAN-PyTorch has a generator.

    Args:
        options: dict, all keyword arguments of `build_generator`.

    Returns:
        dict, arguments of its `Generator`.

    Raises:
        UserError: It has no such generator; the line says what differs.
    """
    size = _square_size(options)
    _check(options, image_channels=3, batch_normalization_epsilon=1e-5)
    _check_attention(options, [size for size in options["attention_sizes"] if size == INITIAL_SIZE])
    channels = options["channels"]
    initial = options["initial_channels"] or GENERATOR_MULTIPLIERS[size][0] * channels
    if initial != _INITIAL_MULTIPLES[size] * channels:
        raise UserError(
            f"the 4x4 map has {initial} channels; BigGAN-PyTorch's generator of these blocks has "
            f"{_INITIAL_MULTIPLES[size] * channels} (generator.initial_channels)."
        )
    return {
        "G_ch": _width(channels, _GENERATOR_WIDTHS[size]),
        "dim_z": options["latent_dim"],
        "G_attn": _places(options),
        "G_param": "SN" if options["spectral_normalization"] else "none",
        **_shared(options),
        "G_shared": False,
    }


def discriminator_arguments(options):
    """Checks that BigGAN-PyTorch has a discriminator, as `generator_arguments`; returns those of `Discriminator`."""
    size = _square_size(options)
    _check(options, image_channels=3, spectral_normalization=True, hidden_channels="output", activate_skip=False)
    halvings = sum(DISCRIMINATOR_DOWNSAMPLING[size])
    # Its attention follows every block with maps of a size; its blocks for 32 px are all said to have 16 px.
    repeated = [place for place in options["attention_sizes"] if size == 32 or place == size // 2**halvings]
    _check_attention(options, repeated)
    return {
        "D_ch": _width(options["channels"], _DISCRIMINATOR_WIDTHS[size]),
        "D_attn": _places(options),
        **_shared(options),
    }


def make_state_dict(values, image_size):
    """Gives the weights of a network the names and shapes of BigGAN-PyTorch.

    Args:
        values: dict, name as in `named_weights.weights_by_name` -> array, of a network whose options passed
            `generator_arguments` or `discriminator_arguments`.
        image_size: int, px.

    Returns:
        dict, name -> float32 array. Class gains are stored minus 1, so those below 0.5 lose their last bits.
    """
    start = INITIAL_SIZE if "output_conv/kernel" in values else image_size
    state = {}
    for name, value in values.items():
        layer, variable = name.rsplit("/", 1)
        value = np.asarray(value, np.float32)
        if layer == "dense":
            value = value[..., np.argsort(first_map_order(value.shape[-1] // INITIAL_SIZE**2))]
        state |= _tensors(_module(layer, start), variable, value)
    return state


def _module(layer, start):
    """Their module of our layer; `start` is the size in px that the network's blocks start from."""
    head, *rest = layer.split("/")
    kind, _, place = head.partition("_")
    if kind == "attention":
        return ".".join([f"blocks.{_index(place, start)}.1", *(_NAMES["attention"][name] for name in rest)])
    if kind == "block":
        number, _, name = place.partition("_")
        index = _index(number, start) if start == INITIAL_SIZE else int(number) - 1
        return f"blocks.{index}.0.{_NAMES['blocks'][name]}"
    return _NAMES[layer]


def _index(size, start):
    """Index of the first block with maps of `size` px."""
    return round(abs(math.log2(int(size) / start))) - 1


def _tensors(module, variable, value):
    if variable == "kernel":
        return {f"{module}.weight": value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T}
    if variable == "embeddings":
        return {f"{module}.weight": value}
    if variable == "u":
        return {f"{module}.u0": value[np.newaxis], f"{module}.sv0": np.ones(1, np.float32)}  # sv0 is for its logs.
    if variable == "gamma" and value.ndim:
        return {f"{module}.gain": value} if value.ndim == 1 else {f"{module}.gain.weight": value - 1}
    if variable == "beta":
        return {f"{module}.bias" if value.ndim == 1 else f"{module}.bias.weight": value}
    return {f"{module}.{_STATISTICS.get(variable, variable)}": value}


def _square_size(options):
    """The image size as one number, for which BigGAN-PyTorch has blocks."""
    image_size, _ = check_image_size(options["image_size"])
    if image_size[0] != image_size[1] or image_size[0] not in GENERATOR_MULTIPLIERS:
        raise UserError(
            f"its images are of {format_image_size(image_size)} px; BigGAN-PyTorch's are squares of "
            f"{', '.join(map(str, GENERATOR_MULTIPLIERS))} px."
        )
    return image_size[0]


def _check(options, **required):
    for name, value in required.items():
        if options.get(name, value) != value:
            raise UserError(f"{name} is {options[name]}; in BigGAN-PyTorch it can only be {value}.")


def _check_attention(options, impossible):
    if not options["attention_sizes"]:
        return
    if impossible:
        raise UserError(f"BigGAN-PyTorch cannot have attention at {impossible[0]} px in this place.")
    _check(options, attention_block="self_attention")
    _check(options["attention_options"] or {}, **_ATTENTION)


def _width(channels, multiple):
    if channels % multiple:
        raise UserError(f"channels is {channels}; in BigGAN-PyTorch it can only be a multiple of {multiple}.")
    return channels // multiple


def _places(options):
    return "_".join(map(str, sorted(options["attention_sizes"]))) or "0"


def _shared(options):
    if options["num_classes"] is None:
        raise UserError("it has no classes; BigGAN-PyTorch's networks do.")
    return {"resolution": _square_size(options), "n_classes": options["num_classes"]}
