"""Converts state dicts of BigGAN-PyTorch's SAGAN script, of PyTorch-StudioGAN and of mmagic (mmgeneration).

They have the authors' blocks and are recognized by the names of their modules. Inputs are NumPy arrays, so that PyTorch
is not needed. The differences to our networks:

- Kernels (O, I, h, w) and (O, I) become (h, w, I, O) and (I, O). The generator's first layer gives (C, 4, 4) there and
  (4, 4, C) here, so its outputs are permuted.
- Class tables of batch normalization hold gain - 1 there, in mmagic with `init_cfg` of type BigGAN or studio. StudioGAN
  and most configs of mmagic normalize them spectrally; they are folded here.
- Our u is theirs (`u0`, `weight_u`). At evaluation BigGAN-PyTorch computes sigma from it as we do; StudioGAN and mmagic
  use the stored u and v, one power iteration behind.

What no state dict says is taken as in their SAGAN configs: ReLU, batch normalization and its epsilon. Where the configs
of mmagic differ, in the order of the channels and in ReLUs in place, the caller must say it.
"""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from sagan_tf.conversion import mmagic
from sagan_tf.errors import UserError
from sagan_tf.networks.architectures import (
    DISCRIMINATOR_DOWNSAMPLING,
    DISCRIMINATOR_MULTIPLIERS,
    GENERATOR_MULTIPLIERS,
    INITIAL_SIZE,
)

# Our names of layers -> theirs.
_BIGGAN = {
    "list": "blocks",
    "nesting": (".0", ".1"),
    "dense": "linear",
    "blocks": {"conv_1": "conv1", "conv_2": "conv2", "skip": "conv_sc", "norm_1": "bn1", "norm_2": "bn2"},
    "attention": {"query": "theta", "key": "phi", "value": "g", "projection": "o"},
    "gamma": "gamma",
    "output_norm": "output_layer.0",
    "output_conv": "output_layer.2",
    "output_dense": "linear",
    "embedding": "embed",
}
_STUDIOGAN = {
    "list": "blocks",
    "nesting": (".0",),
    "dense": "linear0",
    "blocks": {"conv_1": "conv2d1", "conv_2": "conv2d2", "skip": "conv2d0", "norm_1": "bn1", "norm_2": "bn2"},
    "attention": {"query": "conv1x1_theta", "key": "conv1x1_phi", "value": "conv1x1_g", "projection": "conv1x1_attn"},
    "gamma": "sigma",
    "output_norm": "bn4",
    "output_conv": "conv2d5",
    "output_dense": "linear1",
    "embedding": "embedding",
}
LAYOUTS = {"biggan_pytorch": _BIGGAN, "studiogan": _STUDIOGAN, "mmagic": mmagic.LAYOUT}
# By layout; `embed0` and `embed1` are those of older StudioGANs.
_TABLES = (("gain", "embed0", "weight_embedding"), ("bias", "embed1", "bias_embedding"))
_MOVING_STATISTICS = {
    "moving_mean": ("stored_mean", "bn.stored_mean", "bn.running_mean", "running_mean", "norm.running_mean"),
    "moving_variance": ("stored_var", "bn.stored_var", "bn.running_var", "running_var", "norm.running_var"),
}
_EPSILON = {"biggan_pytorch": 1e-5, "studiogan": 1e-4, "mmagic": mmagic.EPSILON}  # Of batch normalization.
_IGNORED = re.compile(r"(^steps|\.(sv\d+|num_batches_tracked|accumulation_counter|weight_v))$")  # v follows from u
# A file of mmagic has all networks, under these names.
_PREFIXES = {"generator": ("generator_ema.", "generator."), "discriminator": ("discriminator.",)}


@dataclasses.dataclass(frozen=True)
class Converted:
    """A network converted from a state dict.

    Args:
        part: `generator` or `discriminator`.
        layout: Key of `LAYOUTS`.
        options: Keyword arguments of `build_generator` or `build_discriminator`.
        values: dict, name as in `named_weights.weights_by_name` -> array.
        unused: Names in the state dict that were not converted.
    """

    part: str
    layout: str
    options: dict
    values: dict
    unused: tuple[str, ...]


def convert_state_dict(state, source="state dict", part=None, channel_order=None, relu_in_place=None):
    """Recognizes the network of a state dict, and gives its tensors our names and shapes.

    Args:
        state: dict, name -> array; the prefix `module.` of DataParallel is dropped.
        source: str, for messages.
        part: `generator` or `discriminator`, to take from a file of mmagic with both; the averaged generator, if there
            is one.
        channel_order: `rgb` or `bgr`, of the images; needed for mmagic's layout, and `rgb` in the others.
        relu_in_place: bool. Needed for a discriminator of mmagic: its blocks' ReLUs work in place, so that the skips
            see their output.

    Returns:
        Converted.

    Raises:
        UserError: The names match no known layout, or the sizes no architecture of `sagan_tf.networks`; or an
            option that the state dict does not record is missing.
    """
    state = {name.removeprefix("module."): np.asarray(value) for name, value in _select(state, part).items()}
    layout = _find_layout(state, source)
    reader = _Reader({n: v for n, v in state.items() if not _IGNORED.search(n)}, LAYOUTS[layout], source)
    if reader.names["output_conv"] in reader.modules:
        part, options = "generator", _convert_generator(reader)
        options["batch_normalization_epsilon"] = _EPSILON[layout]
    else:
        part, options = "discriminator", _convert_discriminator(reader)
        if layout == "studiogan":
            options["activate_skip"] = True  # Its ReLUs work in place, so the skip branch sees their output.
    always = (layout, part) == ("biggan_pytorch", "discriminator")  # It has no other, so that u may be left out.
    options["spectral_normalization"] = always or reader.is_normalized()
    if layout == "mmagic":
        options |= mmagic.complete(reader, part, options, channel_order, relu_in_place)
    elif channel_order == "bgr" or relu_in_place is not None:
        raise UserError(f"{source}: is of {layout}; only files of mmagic need the channel order and ReLUs in place.")
    return Converted(part, layout, options, reader.values, tuple(sorted(set(reader.state) - reader.used)))


def _select(state, part):
    """Takes one network from a file with several."""
    for prefix in _PREFIXES.get(part, ()):
        selected = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        if selected:
            return selected
    return state


def _find_layout(state, source):
    for layout, names in LAYOUTS.items():
        block = re.compile(rf"{names['list']}\.\d+{re.escape(names['nesting'][0] + '.' + names['blocks']['conv_1'])}\.")
        if any(block.match(name) for name in state):
            if any(name.startswith("shared.") for name in state):
                raise UserError(f"{source}: is a BigGAN with a shared embedding, not a SAGAN; it cannot be converted.")
            return layout
    known = (
        "BigGAN-PyTorch (blocks.0.0.conv1...), PyTorch-StudioGAN (blocks.0.0.conv2d1...) or mmagic "
        "(conv_blocks.0.conv_1.conv...)"
    )
    first_names = ", ".join(list(state)[:3]) or "nothing"
    raise UserError(f"{source}: contains no SAGAN of {known}. It contains {first_names}.")


class _Reader:
    """Converts tensors of a state dict layer by layer, and keeps track of those used."""

    def __init__(self, state, names, source):
        self.state, self.names, self.source = state, names, source
        self.used, self.values = set(), {}
        self.has_normalized_tables = None  # without class tables
        self._normalized = set()  # Of True for a layer with spectral normalization and False for one without.
        self.modules = {name.rsplit(".", 1)[0] for name in state}

    def has(self, module):
        return any(name.startswith(f"{module}.") for name in self.state)

    def take(self, *candidates):
        """Returns the tensor of the first name that exists, or None."""
        for name in candidates:
            if name in self.state:
                self.used.add(name)
                return self.state[name]
        return None

    def is_normalized(self):
        """Returns whether the network is spectrally normalized."""
        if len(self._normalized) > 1:
            raise UserError(f"{self.source}: has spectral normalization in some layers only; it cannot be converted.")
        return self._normalized == {True}

    def blocks(self):
        """Returns [module of the residual block, module of the attention after it or None] in order."""
        blocks, index, modules = [], 0, [*self.names.get("first", ())]
        while self.has(f"{self.names['list']}.{index}"):
            modules += [f"{self.names['list']}.{index}{inner}" for inner in self.names["nesting"]]
            index += 1
        for module in modules:
            if self.has(f"{module}.{self.names['blocks']['conv_1']}"):
                blocks.append([module, None])
            elif f"{module}.{self.names['gamma']}" in self.state and blocks:
                blocks[-1][1] = module
        return blocks

    def width(self, module, name="conv_1"):
        """Output channels of a convolution of a block."""
        return self.shape(f"{module}.{self.names['blocks'][name]}")[0]

    def shape(self, module):
        """Shape of a kernel, outputs first."""
        return self._weight(module).shape

    def _weight(self, module):
        value = self.take(f"{module}.weight_orig", f"{module}.weight")
        if value is None:
            raise UserError(f"{self.source}: {module}.weight is missing.")
        return value

    def convert_layer(self, module, layer, kind="kernel", output_order=slice(None)):
        """Converts weight, bias and u of a dense layer, a convolution or (kind `embeddings`) an embedding."""
        weight = self._weight(module)[output_order]
        outputs = len(weight)
        self._normalized.add(any(f"{module}.{name}" in self.state for name in ("weight_orig", "u0")))
        if kind == "kernel":
            weight = weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T
        self.values[f"{layer}/{kind}"] = weight
        for variable, names in (("bias", ("bias",)), ("u", ("weight_u", "u0"))):
            value = self.take(*(f"{module}.{name}" for name in names))
            if value is not None:
                value = value.reshape(-1)
                # One of another length stays so, and is refused with the network.
                self.values[f"{layer}/{variable}"] = value[output_order] if len(value) == outputs else value

    def convert_block(self, module, layer):
        for name in ("conv_1", "conv_2", "skip"):
            convolution = f"{module}.{self.names['blocks'][name]}"
            if self.has(convolution):
                self.convert_layer(convolution, f"{layer}_{name}")

    def convert_attention(self, module, layer):
        for name, theirs in self.names["attention"].items():
            self.convert_layer(f"{module}.{theirs}", f"{layer}/{name}")
        self.values[f"{layer}/gamma"] = self.take(f"{module}.{self.names['gamma']}").reshape(())

    def convert_normalization(self, module, layer):
        """Converts batch normalization; returns the number of classes, or None for the unconditional one."""
        for variable, names in _MOVING_STATISTICS.items():
            value = self.take(*(f"{module}.{name}" for name in names))
            if value is not None:
                self.values[f"{layer}/{variable}"] = value
        gamma = self.take(f"{module}.weight", f"{module}.gain", f"{module}.norm.weight")
        beta = self.take(f"{module}.bias", f"{module}.norm.bias")
        if gamma is not None:
            if beta is None:
                raise UserError(f"{self.source}: {module}.bias is missing.")
            self.values |= {f"{layer}/gamma": gamma, f"{layer}/beta": beta}
            return None
        gain, bias = (self._class_table(module, names) for names in _TABLES)
        self.values |= {f"{layer}/gamma": 1 + gain, f"{layer}/beta": bias}
        return len(gain)

    def _class_table(self, norm, names):
        """Returns a class table (K, C), divided by its sigma where it is spectrally normalized."""
        name = next((name for name in names if self.has(f"{norm}.{name}")), names[0])
        module = f"{norm}.{name}"
        weight = self._weight(module)
        u = self.take(f"{module}.weight_u", f"{module}.u0")
        if u is None and f"{module}.weight_orig" in self.state:
            raise UserError(f"{self.source}: {module}.weight_u is missing.")
        if self.has_normalized_tables not in (None, u is not None):
            raise UserError(f"{self.source}: spectral normalization in some layers only; {module} differs from others.")
        self.has_normalized_tables = u is not None
        if u is not None:
            v = u.reshape(-1) @ weight
            if not np.linalg.norm(v):
                raise UserError(f"{self.source}: {module} has no sigma; its u or its weights are zero.")
            weight = weight / np.linalg.norm(weight @ (v / np.linalg.norm(v)))
        # StudioGAN's `gain` and `bias` are linear layers of one-hot labels (C, K); all others are embeddings.
        return weight.T if self.names is _STUDIOGAN and name == names[0] else weight


def first_map_order(width):
    """Their index of each of our outputs of the generator's first layer."""
    return np.arange(width * INITIAL_SIZE**2).reshape(width, INITIAL_SIZE, INITIAL_SIZE).transpose(1, 2, 0).reshape(-1)


def _convert_generator(reader):
    names, blocks = reader.names, reader.blocks()
    widths = [reader.width(module) for module, _ in blocks]
    image_size, channels = _find_architecture(reader, widths, GENERATOR_MULTIPLIERS, skip=1)
    width = reader.shape(f"{blocks[0][0]}.{names['blocks']['conv_1']}")[1]
    outputs = reader.shape(names["dense"])[0]
    if outputs != width * INITIAL_SIZE**2:
        raise UserError(
            f"{reader.source}: its first layer has {outputs} outputs, expected {width} channels of {INITIAL_SIZE}x"
            f"{INITIAL_SIZE} px."
        )
    reader.convert_layer(names["dense"], "dense", output_order=first_map_order(width))
    attention_sizes, num_classes = [], None
    for i, (module, attention) in enumerate(blocks, start=1):
        size = INITIAL_SIZE * 2**i
        reader.convert_block(module, f"block_{size}")
        for norm in ("norm_1", "norm_2"):
            num_classes = reader.convert_normalization(f"{module}.{names['blocks'][norm]}", f"block_{size}_{norm}")
        if attention:
            attention_sizes.append(size)
            reader.convert_attention(attention, f"attention_{size}")
    reader.convert_normalization(names["output_norm"], "output_norm")
    reader.convert_layer(names["output_conv"], "output_conv")
    return {
        "image_size": image_size,
        "channels": channels,
        "initial_channels": None if width == GENERATOR_MULTIPLIERS[image_size][0] * channels else width,
        "num_classes": num_classes,
        "latent_dim": reader.values["dense/kernel"].shape[0],
        "attention_sizes": tuple(attention_sizes),
    }


def _convert_discriminator(reader):
    names, blocks = reader.names, reader.blocks()
    widths = [reader.width(module, "conv_2") for module, _ in blocks]
    image_size, channels = _find_architecture(reader, widths, DISCRIMINATOR_MULTIPLIERS, skip=0)
    hidden_widths = [reader.width(module) for module, _ in blocks]
    attention_sizes, size = [], image_size
    for i, (module, attention) in enumerate(blocks, start=1):
        reader.convert_block(module, f"block_{i}")
        is_first_of_size = DISCRIMINATOR_DOWNSAMPLING[image_size][i - 1]
        size = size // 2 if is_first_of_size else size
        if attention:
            if not is_first_of_size:
                raise UserError(
                    f"{reader.source}: has attention after block {i}; it cannot be converted, because sagan_tf has "
                    f"attention only after the first block with maps of {size} px."
                )
            attention_sizes.append(size)
            reader.convert_attention(attention, f"attention_{size}")
    reader.convert_layer(names["output_dense"], "output_dense")
    num_classes = None
    if reader.has(names["embedding"]):
        reader.convert_layer(names["embedding"], "embedding", kind="embeddings")
        num_classes = len(reader.values["embedding/embeddings"])
    return {
        "image_size": image_size,
        "channels": channels,
        "num_classes": num_classes,
        "attention_sizes": tuple(attention_sizes),
        "hidden_channels": "output" if hidden_widths == widths else "input",
    }


def _find_architecture(reader, widths, multipliers_by_size, skip):
    """Returns image size and base width of the architecture whose blocks have these widths."""
    for image_size, multipliers in multipliers_by_size.items():
        multipliers = multipliers[skip:]
        if len(multipliers) == len(widths) and widths[-1] % multipliers[-1] == 0:
            channels = widths[-1] // multipliers[-1]
            if widths == [channels * multiplier for multiplier in multipliers]:
                return image_size, channels
    raise UserError(f"{reader.source}: blocks of {widths} channels match no architecture of sagan_tf.networks.")
