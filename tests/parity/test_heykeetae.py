"""Compares the converted generator of heykeetae's layout with PyTorch's."""

import json

import numpy as np
import pytest

from parity import recipe
from parity.goldens import golden
from sagan_tf.conversion.heykeetae import convert_generator, is_heykeetae
from sagan_tf.conversion.pytorch import convert_state_dict
from sagan_tf.errors import UserError
from sagan_tf.generation.folding import fold_generator

TORCH = "PyTorch 2.13.0"
DATA = golden("torch_heykeetae")


@pytest.fixture
def state():
    return recipe.torch_values(json.loads(str(DATA["shapes"])))


def test_converted_generator_and_its_attention_match_pytorch(state, agrees):
    latent = recipe.torch_inputs("heykeetae")["latent"]
    generator = convert_generator(state, "test")
    agrees(TORCH, "generator in heykeetae's layout", np.asarray(generator(latent)), DATA["image"], 5e-6)
    maps = fold_generator(generator).generate(latent)
    agrees(TORCH, "image of the folded generator", np.asarray(maps["image"]), DATA["image"], 5e-6)
    for size, keys, step in ((16, 256, 32), (32, 1024, 128)):
        # Differences from the uniform map, which is near.
        actual, expected = (keys * values - 1 for values in (maps[f"attention_{size}"], DATA[f"map_{size}"]))
        assert np.std(expected) > 0.005
        agrees(TORCH, "attention in heykeetae's layout", np.asarray(actual)[:, ::step], expected, 5e-4)


def test_weights_without_a_sigma_are_refused(state):
    name = next(name for name in state if name.endswith("weight_u"))
    with pytest.raises(UserError, match="weight_u gives no sigma; it or the kernel is zero"):
        convert_generator(state | {name: 0 * state[name]}, "test")


def test_what_is_no_such_generator_is_refused(state):
    discriminator = {name: np.ones(shape) for name, shape in json.loads(str(DATA["discriminator_shapes"])).items()}
    assert is_heykeetae(state) and is_heykeetae(discriminator)
    with pytest.raises(UserError, match="is the discriminator"):
        convert_generator(discriminator, "test")
    with pytest.raises(UserError, match="contains no SAGAN of"):
        convert_state_dict(state)
    for change, message in (
        ({"l4.0.module.weight_bar": None}, "l4.0.module.weight_bar is missing; .* for 64 px"),
        ({"attn1.query_conv.weight": None, "attn1.f_.weight": np.ones(3)}, "attn1.query_conv.weight is missing"),
        ({"attn3.gamma": np.ones(1)}, "1 unexpected: attn3.gamma"),
        ({"l2.1.weight": np.ones(7)}, r"norm_8/gamma is \(7,\)"),
        ({"l2.0.module.weight_bar": np.ones((64, 32, 3, 3))}, r"expected \(I, O, 4, 4\)"),
    ):
        changed = {name: value for name, value in (state | change).items() if value is not None}
        with pytest.raises(UserError, match=message):
            convert_generator(changed, "test")
