"""State dicts of the PyTorch implementations that have the authors' blocks, for our networks.

Read are BigGAN-PyTorch (its SAGAN script, without the shared embedding) and PyTorch-StudioGAN, by the names that their
modules give; NumPy arrays in, so that nothing here needs PyTorch. What differs and is put right:

- kernels (O, I, h, w) and (O, I) become (h, w, I, O) and (I, O); the generator's first layer makes a (C, 4, 4) map
  there and (4, 4, C) here, so its outputs change places;
- class tables of batch normalisation hold gain - 1 there; those of StudioGAN are spectrally normalised, and folded;
- our stored u is theirs (`u0`, `weight_u`). At evaluation BigGAN-PyTorch computes sigma from it as we do; StudioGAN
  uses u and v as they are stored, one power iteration behind.
"""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from sagan_tf.errors import UserError
from sagan_tf.networks.architectures import (
    DISCRIMINATOR_DOWNSAMPLING,
    DISCRIMINATOR_MULTIPLIERS,
    GENERATOR_MULTIPLIERS,
    INITIAL_SIZE,
)

# Names of layers there -> ours; `attention` holds the names of the four convolutions and of gamma.
_BIGGAN = {
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
    "dense": "linear0",
    "blocks": {"conv_1": "conv2d1", "conv_2": "conv2d2", "skip": "conv2d0", "norm_1": "bn1", "norm_2": "bn2"},
    "attention": {
        "query": "conv1x1_theta", "key": "conv1x1_phi", "value": "conv1x1_g", "projection": "conv1x1_attn"
    },
    "gamma": "sigma",
    "output_norm": "bn4",
    "output_conv": "conv2d5",
    "output_dense": "linear1",
    "embedding": "embedding",
}
LAYOUTS = {"biggan_pytorch": _BIGGAN, "studiogan": _STUDIOGAN}
_EPSILON = {"biggan_pytorch": 1e-5, "studiogan": 1e-4}  # Of batch normalisation.
# Logs and counters, nothing that computes; v follows from u.
_PASSED_OVER = re.compile(r"(\.sv\d+|\.num_batches_tracked|\.weight_v|^shared\..*)$")


@dataclasses.dataclass(frozen=True)
class Converted:
    """A network as found in a state dict.

    Args:
        part: `generator` or `discriminator`.
        layout: Key of `LAYOUTS`.
        options: Keyword arguments of `build_generator` or `build_discriminator`.
        values: dict by the names of `named_weights.weights_by_name` -> array.
        left_over: Names in the state dict that nothing was made of.
    """

    part: str
    layout: str
    options: dict
    values: dict
    left_over: tuple[str, ...]


def convert_state_dict(state, source="state dict"):
    """Finds out what network a state dict holds, and gives its tensors our names and shapes.

    Args:
        state: dict, name -> array; a leading `module.` of DataParallel is dropped.
        source: str, for messages.

    Returns:
        Converted.

    Raises:
        UserError: The names are none of a known layout, or the sizes are of no architecture here.
    """
    state = {name.removeprefix("module."): np.asarray(value) for name, value in state.items()}
    layout = _layout(state, source)
    reader = _Reader({n: v for n, v in state.items() if not _PASSED_OVER.search(n)}, LAYOUTS[layout], source)
    part = "generator" if f"{LAYOUTS[layout]['output_conv']}" in reader.modules else "discriminator"
    convert = _generator if part == "generator" else _discriminator
    options = convert(reader)
    if part == "generator":
        options["batch_normalization_epsilon"] = _EPSILON[layout]
    elif layout == "studiogan":
        options["activate_skip"] = True  # Its ReLUs work in place, and the skip sees them.
    return Converted(part, layout, options, reader.values, tuple(sorted(set(reader.state) - reader.used)))


def _layout(state, source):
    for layout, names in LAYOUTS.items():
        block = re.compile(rf"blocks\.\d+\.0\.{names['blocks']['conv_1']}\.")
        if any(block.match(name) for name in state):
            if any(name.startswith("shared.") for name in state):
                raise UserError(f"{source}: is a BigGAN with a shared embedding, not a SAGAN; it cannot be converted.")
            return layout
    known = "BigGAN-PyTorch (blocks.0.0.conv1...) or PyTorch-StudioGAN (blocks.0.0.conv2d1...)"
    shown = ", ".join(list(state)[:3]) or "nothing"
    raise UserError(f"{source}: holds no SAGAN of {known}. It holds {shown}.")


class _Reader:
    """Takes tensors out of a state dict and notes which."""

    def __init__(self, state, names, source):
        self.state, self.names, self.source = state, names, source
        self.used, self.values = set(), {}
        self.modules = {name.rsplit(".", 1)[0] for name in state}

    def has(self, module):
        return any(name.startswith(f"{module}.") for name in self.state)

    def take(self, *candidates):
        """The first of these names that is there, or None."""
        for name in candidates:
            if name in self.state:
                self.used.add(name)
                return self.state[name]
        return None

    def blocks(self):
        """(module of the residual block, module of the attention after it or None), in order."""
        found, first = [], self.names["blocks"]["conv_1"]
        gamma, index = self.names["gamma"], 0
        while self.has(f"blocks.{index}"):
            for inner in range(2):
                module = f"blocks.{index}.{inner}"
                if self.has(f"{module}.{first}"):
                    found.append([module, None])
                elif f"{module}.{gamma}" in self.state and found:
                    found[-1][1] = module
            index += 1
        return found

    def width(self, module, name="conv_1"):
        """Outputs of a convolution of a block."""
        return len(self._weight(f"{module}.{self.names['blocks'][name]}"))

    def _weight(self, module):
        value = self.take(f"{module}.weight_orig", f"{module}.weight")
        if value is None:
            raise UserError(f"{self.source}: {module}.weight is missing.")
        return value

    def linear_map(self, module, ours, kind="kernel", reorder=None):
        """Weight, bias and u of a layer; `reorder` permutes its outputs."""
        order = slice(None) if reorder is None else reorder
        weight = self._weight(module)[order]
        if kind == "kernel":
            weight = weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T
        self.values[f"{ours}/{kind}"] = weight
        for name, value in (
            ("bias", self.take(f"{module}.bias")), ("u", self.take(f"{module}.weight_u", f"{module}.u0"))
        ):
            if value is not None:
                self.values[f"{ours}/{name}"] = value.reshape(-1)[order]

    def attention(self, module, ours):
        for our_name, name in self.names["attention"].items():
            self.linear_map(f"{module}.{name}", f"{ours}/{our_name}")
        self.values[f"{ours}/gamma"] = self.take(f"{module}.{self.names['gamma']}").reshape(())

    def statistics(self, module, ours):
        for our_name, names in (
            ("moving_mean", ("stored_mean", "bn.running_mean", "running_mean")),
            ("moving_variance", ("stored_var", "bn.running_var", "running_var")),
        ):
            value = self.take(*(f"{module}.{name}" for name in names))
            if value is not None:
                self.values[f"{ours}/{our_name}"] = value

    def normalization(self, module, ours):
        """Batch normalisation; returns the number of classes, None for the plain one."""
        self.statistics(module, ours)
        plain = self.take(f"{module}.weight", f"{module}.gain"), self.take(f"{module}.bias")
        if plain[0] is not None:
            self.values |= {f"{ours}/gamma": plain[0], f"{ours}/beta": plain[1]}
            return None
        gain, offset = (self._table(f"{module}.{new}", f"{module}.{old}") for new, old in _TABLES)
        self.values |= {f"{ours}/gamma": 1 + gain, f"{ours}/beta": offset}
        return len(gain)

    def _table(self, *modules):
        """A class table (K, C); StudioGAN has it as a linear layer (C, K) of one-hot labels too, and normalises it."""
        module = next((module for module in modules if self.has(module)), modules[0])
        weight = self._weight(module)
        u = self.take(f"{module}.weight_u")
        if u is not None:
            right = u @ weight / np.linalg.norm(u @ weight)
            weight = weight / np.linalg.norm(weight @ right)
        # Modules called `gain` and `bias` are linear in StudioGAN and embeddings in BigGAN-PyTorch.
        linear = self.names is _STUDIOGAN and module == modules[0]
        return weight.T if linear else weight


_TABLES = (("gain", "embed0"), ("bias", "embed1"))


def _generator(reader):
    names, blocks = reader.names, reader.blocks()
    widths = [reader.width(module) for module, _ in blocks]
    size, channels = _architecture(reader, widths, GENERATOR_MULTIPLIERS, skip=1)
    first = GENERATOR_MULTIPLIERS[size][0] * channels
    places = np.arange(first * INITIAL_SIZE**2).reshape(first, INITIAL_SIZE, INITIAL_SIZE)
    reader.linear_map(names["dense"], "dense", reorder=places.transpose(1, 2, 0).reshape(-1))
    sizes, num_classes = [], None
    for i, (module, attention) in enumerate(blocks, start=1):
        ours = f"block_{INITIAL_SIZE * 2**i}"
        _block(reader, module, ours)
        for norm in ("norm_1", "norm_2"):
            num_classes = reader.normalization(f"{module}.{names['blocks'][norm]}", f"{ours}_{norm}")
        if attention:
            sizes.append(INITIAL_SIZE * 2**i)
            reader.attention(attention, f"attention_{sizes[-1]}")
    reader.normalization(names["output_norm"], "output_norm")
    reader.linear_map(names["output_conv"], "output_conv")
    return {
        "image_size": size,
        "channels": channels,
        "num_classes": num_classes,
        "latent_dim": reader.values["dense/kernel"].shape[0],
        "attention_sizes": tuple(sizes),
    }


def _discriminator(reader):
    names, blocks = reader.names, reader.blocks()
    widths = [reader.width(module, "conv_2") for module, _ in blocks]
    size, channels = _architecture(reader, widths, DISCRIMINATOR_MULTIPLIERS, skip=0)
    hidden = [reader.width(module) for module, _ in blocks]
    sizes, current = [], size
    for i, (module, attention) in enumerate(blocks, start=1):
        _block(reader, module, f"block_{i}")
        current = current // 2 if DISCRIMINATOR_DOWNSAMPLING[size][i - 1] else current
        if attention:
            sizes.append(current)
            reader.attention(attention, f"attention_{current}")
    reader.linear_map(names["output_dense"], "output_dense")
    num_classes = None
    if reader.has(names["embedding"]):
        reader.linear_map(names["embedding"], "embedding", kind="embeddings")
        num_classes = len(reader.values["embedding/embeddings"])
    return {
        "image_size": size,
        "channels": channels,
        "num_classes": num_classes,
        "attention_sizes": tuple(sizes),
        "hidden_channels": "output" if hidden == widths else "input",
    }


def _block(reader, module, ours):
    for name in ("conv_1", "conv_2", "skip"):
        if reader.has(f"{module}.{reader.names['blocks'][name]}"):
            reader.linear_map(f"{module}.{reader.names['blocks'][name]}", f"{ours}_{name}")


def _architecture(reader, widths, multipliers, skip):
    """The image size and base width of which these are the blocks' widths."""
    for size, multiples in multipliers.items():
        own = multiples[skip:]
        if len(own) == len(widths) and widths[-1] % own[-1] == 0:
            channels = widths[-1] // own[-1]
            if widths == [channels * multiple for multiple in own]:
                return size, channels
    raise UserError(f"{reader.source}: has blocks of {widths} channels, which is no architecture of sagan_tf.networks.")
