"""Compares networks, gradients and losses with TF-GAN's, with the same weights and inputs."""

import functools
import json

import numpy as np
import pytest
import tensorflow as tf
from keras import Model, ops

from parity import recipe
from parity.goldens import golden
from parity.tf_gan_weights import load_tf_gan, rename_variables
from sagan_tf.networks import build_discriminator, build_generator
from sagan_tf.networks.named_weights import weights_by_name
from sagan_tf.training import losses

INPUT = {"generator": "latent", "discriminator": "image"}
OUTPUT = {"generator": "image", "discriminator": "logit"}
PARTS = tuple(INPUT)
TF_GAN = "TF-GAN 2.1.0"


@functools.cache
def variables():
    """Shared by all tests: the vectors take an SVD each."""
    return recipe.network_values(json.loads(str(golden("tf_gan_networks")["shapes"])))


def make_networks(dtype="float32"):
    generator = build_generator(
        128,
        recipe.CHANNELS,
        recipe.NUM_CLASSES,
        recipe.LATENT_DIM,
        (32,),
        batch_normalization_epsilon=1e-3,
        dtype=dtype,
    )
    discriminator = build_discriminator(128, recipe.CHANNELS, recipe.NUM_CLASSES, (32,), dtype=dtype)
    load_tf_gan(variables(), generator, discriminator)
    return {"generator": generator, "discriminator": discriminator}


@pytest.fixture(scope="module")
def networks():
    return make_networks()


def make_inputs(part):
    inputs = recipe.network_inputs()
    return [ops.convert_to_tensor(inputs[INPUT[part]]), ops.convert_to_tensor(inputs["label"])]


def loss_of(part, output):
    if part == "generator":
        return ops.sum(output * ops.cast(recipe.network_inputs()["direction"], output.dtype))
    return losses.hinge_discriminator_loss(output, 0.5 * output)


@pytest.mark.parametrize("part", PARTS)
def test_networks_match_tf_gan(networks, part, agrees):
    output = networks[part](make_inputs(part), training=False)
    agrees(TF_GAN, f"{part}: {OUTPUT[part]}", output, golden("tf_gan_networks")[OUTPUT[part]], 2e-6)


@pytest.mark.parametrize("part", PARTS)
def test_attention_scores_match_tf_gan(networks, part, agrees):
    network = networks[part]
    attention = network.get_layer("attention_32")
    feature_map = Model(network.inputs, attention.input)(make_inputs(part), training=False)
    scores = attention(feature_map, return_attention_scores=True)[1]
    expected = golden("tf_gan_networks")[f"{part[0]}_scores"]
    agrees(TF_GAN, f"{part}: attention scores", scores[:, :: recipe.QUERY_STRIDE], expected, 1e-6)


@pytest.mark.parametrize("part", PARTS)
def test_gradient_of_every_variable_matches_tf_gan(part, agrees):
    # In float32 an activation within rounding of zero may pass a ReLU here and not there.
    network = make_networks("float64")[part]
    with tf.GradientTape() as tape:
        loss = loss_of(part, network(make_inputs(part), training=False))
    actual = tape.gradient(loss, [variable.value for variable in network.trainable_variables])
    data = golden("tf_gan_networks")
    expected = rename_variables({name[9:]: data[name] for name in data if name.startswith("gradient/")})[part]
    names = {id(weight): name for name, weight in weights_by_name(network).items()}
    assert {names[id(variable)] for variable in network.trainable_variables} == set(expected)
    for variable, gradient in zip(network.trainable_variables, actual, strict=True):
        # Theirs is a sum of up to 128 x 128 x 3 terms of both signs in float32.
        agrees(TF_GAN, f"{part}: gradient of every variable", gradient, expected[names[id(variable)]], 1e-4)


def test_sigma_differs_from_tf_gan_before_convergence(networks):
    """From an arbitrary u, TF-GAN is half a power iteration behind; so the recipe stores singular vectors."""
    kernel = variables()["generator/g_block1/snconv1/snconv1/kernel"]
    matrix = kernel.reshape(-1, kernel.shape[-1]).astype(np.float64)
    start = recipe.normal("start", (len(matrix),)).astype(np.float64)
    right = matrix.T @ start / np.linalg.norm(matrix.T @ start)
    left = matrix @ right / np.linalg.norm(matrix @ right)
    theirs, largest = left @ matrix @ right, np.linalg.norm(matrix, 2)
    layer = networks["generator"].get_layer("block_8_conv_1")
    before = layer.vectors[0].numpy()
    layer.vectors[0].assign(right)
    ours = float(layer.sigma())
    layer.vectors[0].assign(before)
    assert ours == pytest.approx(np.linalg.norm(matrix.T @ left), rel=1e-5)
    assert theirs < ours < largest


@pytest.mark.parametrize("name", ["hinge", "wasserstein", "least_squares", "non_saturating"])
def test_losses_match_tf_gan(name, agrees):
    loss, data, logits = losses.get(name), golden("tf_gan_losses"), recipe.logits()
    d_loss = loss.discriminator(*map(tf.constant, logits.values()))
    agrees(TF_GAN, "losses", d_loss, data[f"{name}/discriminator"], 1e-6)
    agrees(TF_GAN, "losses", loss.generator(tf.constant(logits["fake"])), data[f"{name}/generator"], 1e-6)
