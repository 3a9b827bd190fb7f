"""Compares converted networks of mmagic with PyTorch's; what its state dicts do not say must be given."""

import functools
import json

import keras
import numpy as np
import pytest

from parity import recipe
from parity.goldens import golden, relative_error
from sagan_tf.conversion.pytorch import convert_state_dict
from sagan_tf.errors import UserError
from sagan_tf.networks import build_discriminator, build_generator
from sagan_tf.networks.named_weights import set_weights

TORCH = "PyTorch 2.13.0"
DATA = golden("torch_mmagic")
LIMIT = 5e-6


@functools.cache
def values_of(name):
    return recipe.torch_values(json.loads(str(DATA[f"{name}_shapes"])))


def compute(state, inputs, **facts):
    """Images or logits of the converted network."""
    converted = convert_state_dict(state, **facts)
    builders = {"generator": build_generator, "discriminator": build_discriminator}
    network = builders[converted.part](**converted.options)
    set_weights(network, converted.values, "test", converted.unused)
    label = recipe.torch_inputs("mmagic")["label"].astype("int32")
    return np.asarray(network([keras.ops.convert_to_tensor(inputs), keras.ops.convert_to_tensor(label)]))


@pytest.mark.parametrize("config", ["default", "biggan"])
def test_converted_generator_matches_pytorch_and_makes_rgb_of_bgr(config, agrees):
    latent = recipe.torch_inputs("mmagic")["latent"]
    image = compute(values_of(config), latent, channel_order="rgb")
    agrees(TORCH, "generator in mmagic's layout", image, DATA[f"{config}_image"], LIMIT)
    if config == "default":
        flipped = compute(values_of(config), latent, channel_order="bgr")[..., ::-1]
        assert relative_error(flipped, image) < 1e-6


@pytest.mark.parametrize("in_place", [False, True])
def test_converted_discriminator_matches_pytorch_with_and_without_relu_in_place(in_place, agrees):
    image, expected = recipe.torch_inputs("mmagic")["image"], DATA[f"logit_in_place_{in_place}"]
    state = values_of("discriminator")
    logit = compute(state, image, channel_order="rgb", relu_in_place=in_place)
    agrees(TORCH, "discriminator in mmagic's layout", logit, expected, LIMIT)
    if in_place:
        flipped = compute(state, image[..., ::-1], channel_order="bgr", relu_in_place=in_place)
        assert relative_error(flipped, expected) < LIMIT


def test_network_is_taken_from_a_file_with_all_networks():
    other = {name: np.zeros_like(value) for name, value in values_of("default").items()}
    file = {"generator_ema.steps": np.array(3)}
    file |= {f"generator_ema.module.{name}": value for name, value in values_of("default").items()}
    file |= {f"generator.{name}": value for name, value in other.items()}
    file |= {f"discriminator.{name}": value for name, value in values_of("discriminator").items()}
    facts = {"channel_order": "rgb", "relu_in_place": False}
    for part, name in (("generator", "default"), ("discriminator", "discriminator")):
        actual, expected = convert_state_dict(file, part=part, **facts), convert_state_dict(values_of(name), **facts)
        assert (actual.part, actual.options, actual.unused) == (part, expected.options, ())
        for key, value in expected.values.items():
            np.testing.assert_array_equal(actual.values[key], value)


def test_conversion_needs_what_the_state_dict_does_not_say():
    with pytest.raises(UserError, match="--channel_order"):
        convert_state_dict(values_of("default"))
    with pytest.raises(UserError, match="--relu_in_place"):
        convert_state_dict(values_of("discriminator"), channel_order="rgb")
    for facts in ({"channel_order": "bgr"}, {"relu_in_place": True}):
        shapes = json.loads(str(golden("torch_studiogan")["discriminator_shapes"]))
        with pytest.raises(UserError, match="is of studiogan"):
            convert_state_dict({name: np.zeros(shape) for name, shape in shapes.items()}, **facts)


@pytest.mark.parametrize("gain", [0.6, 1.0])  # 0.6: learned from 1, or from 0 with 1 to add
def test_class_gains_that_may_not_be_stored_less_1_are_refused(gain):
    state = {name: gain + value if "weight_embedding" in name else value for name, value in values_of("biggan").items()}
    with pytest.raises(UserError, match="its class gains are (0.59|0.99) in the mean"):
        convert_state_dict(state, channel_order="rgb")


def test_normalized_class_gains_that_start_from_1_are_refused():
    state = {name: 1 + value if "weight_embedding.weight_orig" in name else value
             for name, value in values_of("default").items()}  # fmt: skip
    with pytest.raises(UserError, match="they may lack the 1 to add"):
        convert_state_dict(state, channel_order="rgb")


def test_class_tables_of_which_some_are_normalized_are_refused():
    """The last table alone decided what the others were taken for."""
    state = values_of("biggan")
    name = next(name for name in state if name.endswith("bias_embedding.weight"))
    table = state.pop(name)
    state |= {f"{name}_orig": table, f"{name}_u": np.ones(len(table)), f"{name}_v": np.ones(table.shape[1])}
    with pytest.raises(UserError, match="spectral normalization in some layers only; .* differs from others"):
        convert_state_dict(state, channel_order="rgb")


def test_discriminator_for_64_px_is_refused():
    """All five of its blocks halve the map; shapes do not tell them from ours."""
    widths = [3, 8, 16, 32, 64, 128]
    modules = ["from_rgb", *(f"conv_blocks.{i}" for i in range(4))]
    state = {"decision.weight_orig": np.ones((1, 128)), "decision.bias": np.ones(1)}
    for module, inputs, outputs in zip(modules, widths, widths[1:]):
        for name, size, first in (("conv_1", 3, inputs), ("conv_2", 3, outputs), ("shortcut", 1, inputs)):
            state[f"{module}.{name}.conv.weight_orig"] = np.ones((outputs, first, size, size))
    with pytest.raises(UserError, match="64 px cannot be converted"):
        convert_state_dict(state, channel_order="rgb", relu_in_place=False)


@pytest.mark.parametrize("name", ["default", "discriminator"])
def test_conversion_gives_arrays_or_one_line_when_a_tensor_is_missing(name):
    state = values_of(name)
    for missing in state:
        rest = {name: value for name, value in state.items() if name != missing}
        try:
            converted = convert_state_dict(rest, channel_order="rgb", relu_in_place=False)
        except UserError:
            continue
        assert all(isinstance(value, np.ndarray) for value in converted.values.values()), missing
