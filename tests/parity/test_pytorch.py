"""Compares networks, spectral normalization, attention, hinge losses and Adam with PyTorch's."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from parity import recipe
from parity.goldens import golden, relative_error
from sagan_tf.conversion.named_weights import set_weights, weights_by_name
from sagan_tf.conversion.pytorch import convert_state_dict
from sagan_tf.errors import UserError
from sagan_tf.layers import SelfAttention, SpectralNormalization
from sagan_tf.networks import build_discriminator, build_generator
from sagan_tf.training import losses

BUILDERS = {"generator": build_generator, "discriminator": build_discriminator}
TORCH = "PyTorch 2.13.0"
PARTS = [(layout, part) for layout in recipe.TORCH for part in BUILDERS]


def state_dict(layout, part):
    shapes = json.loads(str(golden(f"torch_{layout}")[f"{part}_shapes"]))
    return recipe.torch_values(shapes)


def converted_network(layout, part):
    converted = convert_state_dict(state_dict(layout, part))
    network = BUILDERS[part](**converted.options)
    set_weights(network, converted.values, layout, converted.unused)
    return network, converted


@pytest.mark.parametrize("layout, part", PARTS)
def test_converted_network_matches_pytorch(layout, part, agrees):
    network, converted = converted_network(layout, part)
    assert (converted.layout, converted.part, converted.unused) == (layout, part, ())
    inputs, key = recipe.torch_inputs(layout), {"generator": "latent", "discriminator": "image"}[part]
    actual = network([ops.convert_to_tensor(inputs[key]), ops.convert_to_tensor(inputs["label"].astype("int32"))])
    expected = golden(f"torch_{layout}")[{"generator": "image", "discriminator": "logit"}[part]]
    assert np.std(expected) > 0.05
    agrees(TORCH, f"{part} in {layout}'s layout", actual, expected, 5e-6)


@pytest.mark.parametrize("layout, part", PARTS)
def test_converted_network_sets_every_weight(layout, part):
    network, converted = converted_network(layout, part)
    assert set(converted.values) == set(weights_by_name(network))


def test_studiogan_discriminator_needs_activate_skip():
    converted = convert_state_dict(state_dict("studiogan", "discriminator"))
    network = build_discriminator(**{**converted.options, "activate_skip": False})
    set_weights(network, converted.values, "test")
    inputs = recipe.torch_inputs("studiogan")
    actual = network([ops.convert_to_tensor(inputs["image"]), ops.convert_to_tensor(inputs["label"].astype("int32"))])
    assert relative_error(actual, golden("torch_studiogan")["logit"]) > 0.05


def test_older_studiogan_embedding_tables_convert_to_same_network():
    """Its cBN had embeddings `embed0` and `embed1` (K, C) before it had linear layers (C, K)."""
    state = state_dict("studiogan", "generator")
    old = {}
    for name, value in state.items():
        for new, before in (("gain", "embed0"), ("bias", "embed1")):
            if f".{new}.weight" in name:
                name = name.replace(f".{new}.", f".{before}.")
                if name.endswith("weight_orig"):
                    value = value.T
                else:
                    other = name.replace("weight_u", "weight_v") if "weight_u" in name else name.replace("_v", "_u")
                    value = state[other.replace(before, new)]
        old[name] = value
    expected, actual = (convert_state_dict(s).values for s in (state, old))
    for name in expected:
        assert relative_error(actual[name], expected[name]) < 1e-6


@pytest.mark.parametrize("layout, part", PARTS)
def test_conversion_names_tensors_of_wrong_shape(layout, part):
    state = state_dict(layout, part)
    network = converted_network(layout, part)[0]
    converted = convert_state_dict({**state, "blocks.0.0.surprise.weight": np.zeros(3)})
    with pytest.raises(UserError, match="1 unexpected: blocks.0.0.surprise.weight"):
        set_weights(network, converted.values, layout, converted.unused)
    name = next(name for name in state if name.endswith("bias") and state[name].ndim == 1)
    converted = convert_state_dict({n: v for n, v in state.items() if n != name})
    with pytest.raises(UserError, match="1 missing: .*bias"):
        set_weights(network, converted.values, layout, converted.unused)
    wrapped = convert_state_dict({f"module.{n}": v for n, v in state.items()})
    assert wrapped.options == convert_state_dict(state).options
    with pytest.raises(UserError, match="contains no SAGAN"):
        convert_state_dict({"layer1.0.conv1.weight": np.zeros((4, 3, 3, 3))})
    with pytest.raises(UserError, match="shared embedding"):
        convert_state_dict({**state_dict("biggan_pytorch", "generator"), "shared.weight": np.zeros((5, 8))})
    first = next(name for name in state if ".0.0." in name and name.endswith(("conv2.weight", "conv2d2.weight_orig")))
    with pytest.raises(UserError, match="no architecture|of the wrong shape"):
        widened = convert_state_dict({**state, first: np.zeros((13, *state[first].shape[1:]), np.float32)})
        set_weights(network, widened.values, layout, widened.unused)


@pytest.mark.parametrize("kind", ["dense", "conv"])
@pytest.mark.parametrize("name", recipe.SGD_ITERATIONS)
def test_spectral_normalization_matches_pytorch_over_20_sgd_steps(kind, name, agrees):
    make, x, target = recipe.sgd_cases()[kind]
    weight, bias, u = recipe.sgd_start(kind)
    plain = keras.layers.Dense(make[1]) if kind == "dense" else keras.layers.Conv2D(make[1], make[2])
    layer = SpectralNormalization(plain, power_iterations=recipe.SGD_ITERATIONS[name])
    x, target = (array if kind == "dense" else array.transpose(0, 2, 3, 1) for array in (x, target))
    layer.build(x.shape)
    plain.kernel.assign(to_keras_layout(weight))
    plain.bias.assign(bias)
    layer.vectors[0].assign(u / np.linalg.norm(u))
    data = {key.removeprefix(f"{kind}/{name}/"): value for key, value in golden("torch_spectral_norm").items()}
    for step in range(recipe.SGD_STEPS):
        with tf.GradientTape() as tape:
            output = layer(tf.constant(x), training=True)
            loss = tf.reduce_mean((output - target) ** 2)
        gradients = tape.gradient(loss, [plain.kernel.value, plain.bias.value])
        if step in (0, recipe.SGD_STEPS - 1):
            expected = data[f"output_{step}"]
            expected = expected if kind == "dense" else expected.transpose(0, 2, 3, 1)
            agrees(TORCH, "spectral norm, 20 SGD steps: output", output, expected, 5e-6)
            expected = to_keras_layout(data[f"gradient_{step}"])
            agrees(TORCH, "spectral norm, 20 SGD steps: gradient", gradients[0], expected, 2e-5)
        for variable, gradient in zip((plain.kernel, plain.bias), gradients):
            variable.assign(variable - recipe.SGD_RATE * gradient)
    agrees(TORCH, "spectral norm, 20 SGD steps: kernel", plain.kernel, to_keras_layout(data["weight"]), 5e-6)


def to_keras_layout(weight):
    """Transposes a weight from PyTorch's to Keras' layout."""
    return weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T


@pytest.mark.parametrize("form", recipe.ATTENTION_FORMS)
def test_self_attention_matches_pytorch_in_published_forms(form, agrees):
    layer = SelfAttention(**recipe.ATTENTION_FORMS[form], spectral_normalization=False)
    layer.build(recipe.ATTENTION_SHAPE)
    named = {name.removeprefix(f"{layer.name}/"): weight for name, weight in weights_by_name(layer).items()}
    values = recipe.attention_weights(form)
    assert set(named) == set(values)
    for name, weight in named.items():
        weight.assign(values[name])
    x = tf.constant(recipe.attention_input())
    with tf.GradientTape() as tape:
        tape.watch(x)
        output, scores = layer(x, return_attention_scores=True)
        loss = tf.reduce_sum(output * recipe.attention_direction())
    actual = {"output": output, "scores": scores, "gradient": tape.gradient(loss, x)}
    for part, value in actual.items():
        agrees(TORCH, f"attention, three forms: {part}", value, golden("torch_attention")[f"{form}/{part}"], 2e-6)


def test_hinge_losses_and_gradients_match_pytorch(agrees):
    data, logits = golden("torch_hinge"), [tf.constant(value) for value in recipe.logits().values()]
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.hinge_discriminator_loss(*logits)
    agrees(TORCH, "hinge losses", loss, data["discriminator"], 1e-6)
    for actual, name in zip(tape.gradient(loss, logits), ("real_gradient", "fake_gradient")):
        np.testing.assert_allclose(actual, data[name], atol=1e-8)
    agrees(TORCH, "hinge losses", losses.hinge_generator_loss(logits[1]), data["generator"], 1e-6)


def test_adam_matches_pytorch_with_the_betas_of_the_paper(agrees):
    weight = keras.Variable(recipe.ema_value(0))
    optimizer = keras.optimizers.Adam(recipe.ADAM_RATE, beta_1=0.0, beta_2=0.9, epsilon=recipe.ADAM_EPSILON)
    for step in range(1, 51):
        optimizer.apply([tf.constant(recipe.ema_value(step))], [weight])
    # Keras adds epsilon before the bias correction of the second moment, PyTorch after it: 1e-7 of a gradient of 1.
    agrees(TORCH, "Adam, betas 0 and 0.9, 50 steps", weight, golden("torch_adam")["weight"], 1e-5)
