"""Maps of the probe against the network; receptive fields against gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from export.generators import make_inputs, make_toy_generator
from toy_networks import toy_discriminator

from sagan_tf.conversion import heykeetae
from sagan_tf.generation.folding import fold_generator
from sagan_tf.networks import build_discriminator, build_generator
from sagan_tf.viewing.attention import AttentionProbe
from sagan_tf.viewing.receptive_fields import receptive_fields


def make_discriminator(image_size=32, attention_sizes=(8, 16)):
    return build_discriminator(
        image_size,
        channels=4,
        num_classes=3,
        attention_sizes=attention_sizes,
        attention_options={"key_reduction": 4, "pool_size": 2},
    )


def test_attention_maps_match_the_folded_generator():
    generator = make_toy_generator()
    inputs = make_inputs(5)
    image, maps = AttentionProbe(generator).attention_maps(inputs, batch_size=2)
    np.testing.assert_allclose(image, generator(inputs, training=False), atol=1e-5)
    expected = fold_generator(generator).generate(*inputs)
    assert list(maps) == ["attention_8", "attention_16"]
    for name, layer_maps in maps.items():
        np.testing.assert_allclose(layer_maps.scores, expected[name], atol=1e-5)
        assert layer_maps.gamma == pytest.approx(0.7 if name == "attention_8" else -0.7)
        side = int(name.rpartition("_")[2])
        assert layer_maps.query_shape == (side, side) and layer_maps.key_shape == (side // 2, side // 2)
        row, column = 3, 5
        expected_map = layer_maps.scores[4, row * side + column]
        np.testing.assert_array_equal(layer_maps.map_of(4, (row, column)).ravel(), expected_map)


def test_attention_maps_leave_weights_unchanged():
    network = toy_discriminator()
    before = [weight.numpy() for weight in network.weights]
    AttentionProbe(network).attention_maps([np.ones((2, 32, 32, 3), np.float32), np.int32([0, 1])])
    for weight, value in zip(network.weights, before):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.parametrize(("size", "attention"), [((32, 32), (8, 16)), ((64, 64), (8, 32)), ((24, 40), (6, 12))])
def test_receptive_field_of_discriminator_is_where_gradients_flow(size, attention):
    network = make_discriminator(size, attention)
    fields = receptive_fields(network)
    # Later attention layers would connect all positions; only convolutions are tested here.
    for layer in AttentionProbe(network).layers.values():
        layer.gamma.assign(0.0)
    for name, (rows, columns) in fields.items():
        tapped = keras.Model(network.inputs, network.get_layer(name).input)
        height, width = tapped.output.shape[1:3]
        assert (len(rows), len(columns)) == (height, width)
        for i in {0, 1, height // 2, height - 1}:
            image = tf.random.normal((8, *size, 3), seed=i)
            with tf.GradientTape() as tape:
                tape.watch(image)
                value = tf.reduce_sum(tapped([image, tf.zeros(8, tf.int32)])[:, i, i] ** 2)
            reached_pixels = np.abs(tape.gradient(value, image)).sum((0, 3)) > 0
            for axis, field in enumerate((rows, columns)):
                reached = reached_pixels.any(1 - axis).reshape(field.shape[1], -1).any(-1)
                np.testing.assert_array_equal(field[i], reached, f"{name}, axis {axis}, position {i}")


@pytest.mark.parametrize("kind", ["residual", "transposed"])
def test_receptive_field_of_generator_is_where_gradients_meet(kind):
    if kind == "residual":
        network = build_generator(32, 4, 3, 8, (8, 16), attention_options={"key_reduction": 4, "pool_size": 1})
    else:
        network = heykeetae.build_generator(8, (16, 16, 16, 8), 3)
    labels = [tf.zeros(4, tf.int32)] * (len(network.inputs) - 1)
    for name, (field, columns) in receptive_fields(network).items():
        np.testing.assert_array_equal(field, columns)  # of a square
        layer = network.get_layer(name)
        rest = keras.Model([layer.output, *network.inputs[1:]], network.output)
        for later in rest.layers:
            if hasattr(later, "gamma") and later.name.startswith("attention"):
                later.gamma.assign(0.0)
        x = tf.random.normal((4, *layer.output.shape[1:]), seed=1)
        with tf.GradientTape() as tape:
            tape.watch(x)
            rows = tf.reduce_sum(rest([x, *labels])[:, :, network.output.shape[2] // 2], (0, 2))
        depends = np.abs(tape.jacobian(rows, x)).sum((1, 3, 4)) > 0
        np.testing.assert_array_equal(field, depends.T.astype(int) @ depends > 0, name)


def test_attention_maps_are_empty_without_attention():
    probe = AttentionProbe(toy_discriminator(attention_sizes=()))
    logit, maps = probe.attention_maps([np.zeros((3, 32, 32, 3), np.float32), np.int32([0, 1, 2])])
    assert maps == {} and logit.shape == (3, 1)
