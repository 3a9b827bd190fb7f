"""A folded generator makes the images and has the attention maps of the original."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from export.generators import NUM_CLASSES, images_of, make_generator, make_inputs, make_toy_generator

from sagan_tf.export import fold_generator
from sagan_tf.layers import SelfAttention

# Sums of at most some thousand float32 products in another order, amplified by attention's softmax.
TOLERANCE = 3e-5

GENERATORS = {
    "conditional": {},
    "unconditional": {"num_classes": None},
    "gray": {"image_channels": 1},
    "one_class": {"num_classes": 1},
    "no_attention": {"attention_sizes": ()},
    "residual_control": {"attention_block": "residual"},
    "no_spectral_normalization": {"spectral_normalization": False},
    "attention_as_printed": {"attention_options": {"value_reduction": 8, "pool_size": 1}},
    "attention_first_version": {
        "attention_options": {
            "value_reduction": 1,
            "pool_size": 1,
            "output_projection": False,
            "use_bias": True,
            "spectral_normalization": False,
        }
    },
    "attention_with_bias": {"attention_options": {"use_bias": True}},
}


@pytest.mark.slow
@pytest.mark.parametrize("arguments", GENERATORS.values(), ids=GENERATORS)
def test_folded_generator_makes_the_same_images(arguments):
    generator = make_generator(**arguments)
    inputs = make_inputs(num_classes=arguments.get("num_classes", NUM_CLASSES))
    images = images_of(generator, inputs)
    assert images.std() > 0.05  # the weights above do not saturate tanh, which would hide errors
    folded = fold_generator(generator)
    np.testing.assert_allclose(images_of(folded.model, inputs), images, atol=TOLERANCE)
    latent, *label = inputs if isinstance(inputs, list) else [inputs]
    np.testing.assert_allclose(folded.generate(latent, *label)["image"], images, atol=TOLERANCE)


@pytest.mark.parametrize("num_classes", [NUM_CLASSES, None])
def test_folded_generator_does_not_depend_on_the_global_data_format(num_classes):
    generator, inputs = make_generator(num_classes), make_inputs(num_classes=num_classes)
    images = images_of(generator, inputs)
    keras.config.set_image_data_format("channels_first")
    try:
        folded = fold_generator(generator)
        np.testing.assert_allclose(images_of(folded.model, inputs), images, atol=TOLERANCE)
    finally:
        keras.config.set_image_data_format("channels_last")


def test_fold_generator_leaves_the_generator_unchanged():
    generator = make_toy_generator()
    weights, images = generator.get_weights(), images_of(generator, make_inputs())
    fold_generator(generator)
    assert all(np.array_equal(a, b) for a, b in zip(weights, generator.get_weights(), strict=True))
    np.testing.assert_array_equal(images_of(generator, make_inputs()), images)
    keras.Model.from_config(generator.get_config())  # no stray nodes


def test_folded_generator_does_not_follow_later_weights():
    generator = make_toy_generator()
    folded = fold_generator(generator)
    images = images_of(folded.model, make_inputs())
    for weight in generator.weights:
        weight.assign(weight * 0)
    np.testing.assert_array_equal(images_of(folded.model, make_inputs()), images)


@pytest.mark.slow
def test_folded_mixed_precision_generator_matches_float32():
    mixed = make_generator(dtype="mixed_bfloat16")
    exact = make_generator(dtype="float32")
    exact.set_weights(mixed.get_weights())
    folded = fold_generator(mixed)
    assert {layer.compute_dtype for layer in folded.model.layers} == {"float32"}
    images = images_of(exact, make_inputs())
    np.testing.assert_allclose(images_of(folded.model, make_inputs()), images, atol=TOLERANCE)
    assert abs(images_of(mixed, make_inputs()) - images).max() > 100 * TOLERANCE  # bfloat16 would exceed this


def test_folded_generator_has_the_attention_maps_of_the_layers():
    generator, (latent, label) = make_generator(), make_inputs()
    outputs = fold_generator(generator).generate(latent, label)
    layers = [layer for layer in generator.layers if isinstance(layer, SelfAttention)]
    assert set(outputs) == {"image"} | {layer.name for layer in layers}
    for layer in layers:
        before = keras.Model(generator.inputs, layer.input)([latent, label], training=False)
        _, scores = layer(before, return_attention_scores=True)
        np.testing.assert_allclose(outputs[layer.name], scores, atol=TOLERANCE)


def test_folded_generator_reports_its_shapes():
    folded = fold_generator(make_toy_generator())
    assert (folded.latent_dim, folded.num_classes, folded.image_shape) == (12, 5, (32, 32, 3))
    assert folded.attention_shapes == {"attention_8": (64, 16), "attention_16": (256, 64)}
    assert fold_generator(make_toy_generator(None)).num_classes is None


def count_operations(model):
    call = tf.function(lambda *x: model(list(x), training=False), autograph=False)
    specs = [tf.TensorSpec(x.shape, x.dtype) for x in model.inputs]
    definition = call.get_concrete_function(*specs).graph.as_graph_def()
    return len(definition.node) + sum(len(function.node_def) for function in definition.library.function)


@pytest.mark.slow
def test_folded_graph_has_less_than_half_of_the_operations():
    generator = make_generator()
    assert 0 < count_operations(fold_generator(generator).model) < count_operations(generator) / 2


def test_folded_generator_consists_of_stock_layers():
    for layer in fold_generator(make_generator()).model.layers:
        assert type(layer).__module__.startswith("keras."), layer


def dense_model():
    x = keras.Input((4,))
    return keras.Model(x, keras.layers.Dense(3)(x))


@pytest.mark.parametrize("model", [dense_model, keras.Sequential, lambda: keras.layers.Dense(3), lambda: None])
def test_fold_generator_rejects_other_models(model):
    with pytest.raises(ValueError, match="must be a functional keras.Model.*Received"):
        fold_generator(model())


def test_fold_generator_rejects_labels_without_conditional_batch_norm():
    latent, label = keras.Input((4,)), keras.Input((), dtype="int32")
    image = keras.layers.Reshape((2, 2, 1))(latent + keras.layers.Embedding(3, 4)(label))
    with pytest.raises(ValueError, match="must use them in `ConditionalBatchNormalization`"):
        fold_generator(keras.Model([latent, label], image))
