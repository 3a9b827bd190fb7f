"""Networks written for BigGAN-PyTorch: its names and shapes, its published widths, and its outputs."""

import inspect
import json

import numpy as np
import pytest

from parity import recipe
from parity.goldens import golden, relative_error
from sagan_tf.conversion.biggan_pytorch import discriminator_arguments, generator_arguments, make_state_dict
from sagan_tf.conversion.files import write_state_dict
from sagan_tf.conversion.pytorch import convert_state_dict
from sagan_tf.errors import UserError
from sagan_tf.networks import build_discriminator, build_generator
from sagan_tf.networks.architectures import DISCRIMINATOR_MULTIPLIERS, GENERATOR_MULTIPLIERS

BUILDERS = {"generator": build_generator, "discriminator": build_discriminator}
BIGGANS = [(case, part) for case in ("biggan_pytorch", "biggan_pytorch_64") for part in BUILDERS]


def shapes_of(case, part):
    """Published names and shapes."""
    return json.loads(str(golden(f"torch_{case}")[f"{part}_shapes"]))


@pytest.mark.parametrize("case, part", BIGGANS)
def test_state_dict_is_the_one_that_was_converted(case, part):
    original = {name: recipe.normal(name, shape) for name, shape in shapes_of(case, part).items()}
    converted = convert_state_dict(original)
    actual = make_state_dict(converted.values, converted.options["image_size"])
    assert {name: value.shape for name, value in actual.items()} == {n: v.shape for n, v in original.items()}
    for name, value in original.items():
        if name.endswith("gain.weight"):  # 1 was added and subtracted
            np.testing.assert_allclose(actual[name], value, rtol=0, atol=2**-22)
        elif not name.endswith("sv0"):  # for its logs
            np.testing.assert_array_equal(actual[name], value, name)
    back = convert_state_dict(actual)
    assert (back.options, back.unused) == (converted.options, ())
    for name, value in converted.values.items():
        is_gain = value.ndim == 2 and name.endswith("gamma")
        np.testing.assert_allclose(back.values[name], value, rtol=0, atol=2**-22 if is_gain else 0)


@pytest.mark.parametrize("case, part", BIGGANS)
def test_written_file_gives_the_same_outputs_in_pytorch(case, part, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from parity import torch_networks

    converted = convert_state_dict(recipe.torch_values(shapes_of(case, part)))
    write_state_dict(tmp_path / "network.pth", make_state_dict(converted.values, converted.options["image_size"]))
    options = {"num_classes": recipe.NUM_CLASSES, **recipe.TORCH[case][part]}
    inputs, labels = recipe.torch_inputs(case), recipe.torch_inputs(case)["label"]
    if part == "generator":
        theirs = torch_networks.Generator("biggan_pytorch", latent_dim=recipe.LATENT_DIM, **options)
        x, expected = inputs["latent"], golden(f"torch_{case}")["image"].transpose(0, 3, 1, 2)
    else:
        theirs = torch_networks.Discriminator("biggan_pytorch", **options)
        x, expected = inputs["image"].transpose(0, 3, 1, 2), golden(f"torch_{case}")["logit"]
    theirs.load_state_dict(torch.load(tmp_path / "network.pth", weights_only=True), strict=True)
    with torch.no_grad():
        output = theirs.eval()(torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(labels))
    assert relative_error(output, expected) < 1e-6


def options_of_both(image_size, **changes):
    """All arguments of the builders, for networks that BigGAN-PyTorch has too."""
    signatures = (inspect.signature(builder).parameters for builder in BUILDERS.values())
    defaults = {name: parameter.default for names in signatures for name, parameter in names.items()}
    initial = 8 * 64 if image_size == 64 else None
    return {**defaults, "image_size": image_size, "initial_channels": initial, **changes}


# Published widths of its generator's first layer and blocks, and of its discriminator's blocks; multiples of its `ch`.
WIDTHS = {
    32: ((4, 4, 4, 4), (4, 4, 4, 4)),
    64: ((16, 16, 8, 4, 2), (1, 2, 4, 8, 16)),
    128: ((16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16)),
    256: ((16, 16, 8, 8, 4, 2, 1), (1, 2, 4, 8, 8, 16, 16)),
}


@pytest.mark.parametrize("size", WIDTHS)
def test_arguments_give_the_published_widths(size):
    options = options_of_both(size, attention_sizes=(32, 8))
    first = options["initial_channels"] or 64 * GENERATOR_MULTIPLIERS[size][0]
    generator = generator_arguments(options)
    widths = [first, *(64 * multiple for multiple in GENERATOR_MULTIPLIERS[size][1:])]
    assert [generator["G_ch"] * multiple for multiple in WIDTHS[size][0]] == widths
    assert (generator["G_attn"], generator["resolution"], generator["n_classes"]) == ("8_32", size, 1000)
    discriminator = discriminator_arguments(options_of_both(size, attention_sizes=()))
    assert [discriminator["D_ch"] * multiple for multiple in WIDTHS[size][1]] == [
        64 * multiple for multiple in DISCRIMINATOR_MULTIPLIERS[size]
    ]


@pytest.mark.parametrize("arguments, size, changes, message", [
    (generator_arguments, 64, {"initial_channels": None}, "4x4 map has 1024 channels; .* has 512"),
    (generator_arguments, (64, 96), {}, "images are of 64x96 px; BigGAN-PyTorch's are squares of 32, 64"),
    (generator_arguments, 64, {"channels": 3, "initial_channels": 24}, "multiple of 2"),
    (generator_arguments, 128, {"batch_normalization_epsilon": 1e-4}, "batch_normalization_epsilon is 0.0001"),
    (generator_arguments, 128, {"attention_sizes": (4, 32)}, "cannot have attention at 4 px"),
    (generator_arguments, 128, {"attention_options": {"pool_size": 1}}, "pool_size is 1"),
    (generator_arguments, 128, {"attention_block": "residual"}, "attention_block is residual"),
    (generator_arguments, 128, {"num_classes": None}, "no classes"),
    (generator_arguments, 128, {"image_channels": 1}, "image_channels is 1"),
    (discriminator_arguments, 32, {"attention_sizes": (16,)}, "cannot have attention at 16 px"),
    (discriminator_arguments, 128, {"attention_sizes": (4,)}, "cannot have attention at 4 px"),
    (discriminator_arguments, 128, {"activate_skip": True}, "activate_skip is True"),
    (discriminator_arguments, 128, {"hidden_channels": "input"}, "hidden_channels is input"),
    (discriminator_arguments, 128, {"spectral_normalization": False}, "spectral_normalization is False"),
])  # fmt: skip
def test_network_that_biggan_pytorch_does_not_have_is_refused(arguments, size, changes, message):
    with pytest.raises(UserError, match=message):
        arguments(options_of_both(size, **changes))
