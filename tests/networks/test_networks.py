"""Generator and discriminator: published parameter counts, shapes, options, export and errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from sagan_tf.layers import SelfAttention, spectral_normalizations
from sagan_tf.networks import build_discriminator, build_generator
from sagan_tf.networks.architectures import discriminator_attention_channels, generator_attention_channels

# (generator, discriminator) as published: reference counts of the authors' code and of StudioGAN's logs
COUNTS = {
    "authors_128": (dict(), (42_078_852, 39_463_618)),
    "studiogan_imagenet_128": (dict(attention_sizes=(64,)), (42_017_412, 39_448_258)),
    "no_attention_128": (dict(attention_sizes=()), (41_996_931, 39_443_137)),
    "unconditional_128": (dict(num_classes=None), (32_232_708, 38_439_618)),
    "ten_classes_128": (dict(num_classes=10), (32_321_412, 38_449_858)),
    "studiogan_cifar10": (dict(image_size=32, num_classes=10, attention_sizes=(16,)), (4_386_308, 1_075_586)),
    "studiogan_tiny_imagenet": (dict(image_size=64, num_classes=200, attention_sizes=(32,)), (13_387_396, 19_752_642)),
}


def count(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


@pytest.mark.parametrize("case", [pytest.param(name, marks=[pytest.mark.slow] * ("128" in name)) for name in COUNTS])
def test_network_parameter_counts_match_published_counts(case):
    arguments, want = COUNTS[case]
    with keras.device("cpu"):
        assert (count(build_generator(**arguments)), count(build_discriminator(**arguments))) == want


def test_network_thin_discriminator_has_parameter_count_of_baseline():
    # mimicry's sagan_128 with ndf 1024: hidden width of the input
    assert count(build_discriminator(hidden_channels="input")) == 30_062_338


@pytest.mark.parametrize(
    "image_size, num_classes, image_channels",
    [
        (32, None, 1), (32, 5, 3), (32, 3, 2),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in ((64, None, 1), (128, 5, 3), (256, 3, 2))),
    ],
)  # fmt: skip
def test_network_outputs_have_expected_shapes_and_ranges(image_size, num_classes, image_channels):
    arguments = dict(image_size=image_size, channels=8, num_classes=num_classes, image_channels=image_channels)
    generator = build_generator(**arguments, latent_dim=7, attention_sizes=(8,))
    discriminator = build_discriminator(**arguments, attention_sizes=(8,))
    latent = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(2, 7)).astype("float32"))
    label = ops.convert_to_tensor(np.array([0, 2], "int32"))
    image = generator(latent if num_classes is None else [latent, label])
    assert image.shape == (2, image_size, image_size, image_channels)
    assert float(ops.max(ops.abs(image))) <= 1
    logit = discriminator(image if num_classes is None else [image, label])
    assert logit.shape == (2, 1)


@pytest.mark.parametrize(("image_size", "first"), [((24, 32), (3, 4)), ((72, 48), (9, 6))])
def test_network_maps_have_the_aspect_of_the_image(image_size, first):
    arguments = dict(image_size=image_size, channels=2, num_classes=None, attention_options=dict(key_reduction=2))
    sizes = [min(first) * scale for scale in (2, 4)]
    generator = build_generator(**arguments, latent_dim=5, attention_sizes=sizes)
    discriminator = build_discriminator(**arguments, attention_sizes=sizes)
    for network in (generator, discriminator):
        shapes = [layer.output.shape[1:3] for layer in network.layers if len(layer.output.shape) == 4]
        assert {height / width for height, width in shapes} == {first[0] / first[1]}
        for size in sizes:
            assert min(network.get_layer(f"attention_{size}").output.shape[1:3]) == size
    assert generator.get_layer("reshape").output.shape[1:3] == first
    image = generator(np.ones((2, 5), "float32"))
    assert image.shape == (2, *image_size, 3)
    assert discriminator(image).shape == (2, 1)


def test_network_of_equal_sides_is_that_of_one_size():
    arguments = dict(channels=2, num_classes=3, attention_sizes=())
    for build in (build_generator, build_discriminator):
        networks = []
        for image_size in (32, (32, 32)):
            keras.utils.set_random_seed(0)
            networks.append(build(image_size, **arguments))
        one, pair = networks
        for weight, other in zip(one.weights, pair.weights, strict=True):
            assert weight.path == other.path
            np.testing.assert_array_equal(weight, other)


@pytest.mark.parametrize("block", ["self_attention", "residual"])
def test_network_has_attention_at_every_requested_size(block):
    arguments = dict(image_size=64, channels=16, num_classes=None, attention_block=block)
    generator = build_generator(attention_sizes=(4, 16, 32), **arguments)
    discriminator = build_discriminator(attention_sizes=(4, 16, 32), **arguments)
    for network in (generator, discriminator):
        for size in (4, 16, 32):
            assert network.get_layer(f"attention_{size}").output.shape[1] == size
        assert (
            sum(
                layer.name.startswith("attention_") and "_conv_" not in layer.name and "_relu_" not in layer.name
                for layer in network.layers
            )
            == 3
        )


@pytest.fixture(scope="module")
def count_without_attention():
    return count(build_generator(attention_sizes=(), num_classes=2))


@pytest.mark.slow
@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_network_residual_control_has_about_as_many_parameters(count_without_attention, size):
    attention = count(build_generator(attention_sizes=(size,), num_classes=2))
    residual = count(build_generator(attention_sizes=(size,), num_classes=2, attention_block="residual"))
    none = count_without_attention
    assert (residual - none) / (attention - none) == pytest.approx(1, abs=0.02)


def test_network_spectral_normalization_is_everywhere_or_nowhere():
    arguments = dict(image_size=32, channels=8, num_classes=3, attention_sizes=(16,))
    for build in (build_generator, build_discriminator):
        network = build(**arguments)
        kernels = [w for w in network.trainable_variables if w.name in ("kernel", "embeddings")]
        assert len(spectral_normalizations(network)) == len(kernels)
        assert not spectral_normalizations(build(**arguments, spectral_normalization=False))


def test_network_attention_options_reach_the_layer():
    options = dict(value_reduction=8, pool_size=1, spectral_normalization=False)
    network = build_discriminator(32, 8, None, (16,), attention_options=options)
    (layer,) = (layer for layer in network.layers if isinstance(layer, SelfAttention))
    assert (layer.value_reduction, layer.pool_size, layer.spectral_normalization) == (8, 1, False)


@pytest.mark.parametrize("build", [build_generator, build_discriminator])
def test_network_attention_options_replace_those_of_the_network(build):
    options = dict(kernel_initializer="orthogonal", dtype="float64")
    network = build(32, 8, None, attention_sizes=(16,), attention_options=options)
    (layer,) = (layer for layer in network.layers if isinstance(layer, SelfAttention))
    assert (layer.kernel_initializer.__class__.__name__, layer.compute_dtype) == ("Orthogonal", "float64")


@pytest.mark.parametrize("build", [build_generator, build_discriminator])
def test_network_rejects_an_attention_size_that_is_no_tuple(build):
    with pytest.raises(ValueError, match="`attention_sizes` must be a tuple of sizes in px. Received: .*=16"):
        build(32, 8, None, attention_sizes=16)


def test_network_label_changes_image_and_logit():
    arguments = dict(image_size=32, channels=8, num_classes=3, attention_sizes=())
    generator, discriminator = build_generator(**arguments), build_discriminator(**arguments)
    for layer in generator.layers:
        if layer.name.endswith("norm_1"):
            layer.beta.assign(np.random.default_rng(0).normal(size=layer.beta.shape))
    latent = ops.ones((2, 128))
    image = generator([latent, ops.array([0, 1])])
    assert float(ops.max(ops.abs(image[0] - image[1]))) > 1e-3
    logit = discriminator([image[:1] * ops.ones((2, 1, 1, 1)), ops.array([0, 1])])
    assert abs(float(logit[0, 0] - logit[1, 0])) > 1e-6


def test_network_projection_discriminator_adds_the_embedding_product():
    discriminator = build_discriminator(32, 8, 3, ())
    image, label = ops.ones((1, 32, 32, 3)), ops.array([2])
    probe = keras.Model(discriminator.inputs, discriminator.get_layer("output_relu").output)
    features = np.array(probe([image, label])).sum((1, 2)).astype(np.float64)
    dense, embedding = (discriminator.get_layer(n).fold() for n in ("output_dense", "embedding"))
    kernel, bias = (w.numpy() for w in dense.weights)
    want = features @ kernel + bias + np.sum(features * embedding.weights[0].numpy()[2])
    np.testing.assert_allclose(discriminator([image, label]), want, rtol=1e-4)


@pytest.mark.slow
def test_networks_are_unchanged_by_save_and_load(tmp_path):
    arguments = dict(image_size=32, channels=8, num_classes=3, attention_sizes=(16,), dtype="mixed_bfloat16")
    generator, discriminator = build_generator(**arguments), build_discriminator(**arguments)
    for network in (generator, discriminator):
        network.get_layer("attention_16").gamma.assign(0.5)  # else the attention would have no effect
    label = ops.array([0, 2])
    image = generator([ops.ones((2, 128)), label])
    assert keras.backend.standardize_dtype(image.dtype) == "float32"
    for network, inputs in ((generator, [ops.ones((2, 128)), label]), (discriminator, [image, label])):
        network.save(tmp_path / "network.keras")
        np.testing.assert_array_equal(keras.models.load_model(tmp_path / "network.keras")(inputs), network(inputs))


def test_network_last_bfloat16_convolution_errs_by_less_than_a_level():
    generator = build_generator(image_size=32, channels=16, num_classes=3, dtype="mixed_bfloat16", attention_sizes=())
    rng, last = np.random.default_rng(0), generator.get_layer("output_conv")
    feature_map = ops.cast(np.maximum(rng.normal(size=(8, 32, 32, last.fold().kernel.shape[2])), 0), "bfloat16")
    kernel, bias = (np.array(weight, np.float64) for weight in last.fold().weights)
    padded = np.pad(np.array(ops.cast(feature_map, "float64")), ((0, 0), (1, 1), (1, 1), (0, 0)))
    want = np.tanh(bias + sum(padded[:, i : i + 32, j : j + 32] @ kernel[i, j] for i in range(3) for j in range(3)))
    off = 127.5 * np.abs(np.array(generator.get_layer("image")(last(feature_map)), np.float64) - want)
    assert want.std() > 0.3 and off.mean() < 0.2 and off.max() < 1
    # The hyperbolic tangent is not rounded.
    image = generator([ops.array(rng.normal(size=(2, 128))), ops.array([0, 2])])
    assert np.any(np.array(image) != np.array(ops.cast(ops.cast(image, "bfloat16"), "float32")))


def test_network_bfloat16_gradients_are_near_float64_for_every_weight():
    arguments = dict(image_size=32, channels=16, num_classes=3, attention_sizes=(16,))
    exact, mixed = (build_discriminator(**arguments, dtype=dtype) for dtype in ("float64", "mixed_bfloat16"))
    exact.get_layer("attention_16").gamma.assign(0.5)
    for weight, other in zip(exact.weights, mixed.weights, strict=True):
        other.assign(weight)
    rng = np.random.default_rng(0)
    image, label = ops.array(rng.normal(size=(32, 32, 32, 3)), "float32"), ops.array(rng.integers(0, 3, 32))

    def gradients(network):
        with tf.GradientTape() as tape:
            loss = ops.mean(network([image, label], training=False))
        return tape.gradient(loss, [weight.value for weight in network.trainable_variables])

    for weight, found, want in zip(exact.trainable_variables, gradients(mixed), gradients(exact), strict=True):
        error = np.linalg.norm(np.array(found, np.float64) - want) / np.linalg.norm(want)
        assert error < 0.1, (weight.path, error)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(image_size=50), "`image_size` must have .* nearest sizes are 48 or 56 px. Got 50."),
        (dict(image_size=(100, 150)), "96x144 or "),
        (dict(image_size=(2048, 3072)), "448x"),
        (dict(image_size=(64, 96, 3)), "two for height and width"),
        (dict(image_size=None), "image_size"),
        (dict(attention_sizes=(24,)), "feature maps"),
        (dict(channels=0), "channels"),
        (dict(num_classes=0), "num_classes"),
        (dict(image_channels=0), "image_channels"),
        (dict(attention_block="nothing"), "attention_block"),
        (dict(attention_sizes=(256,)), "feature maps"),
    ],
)
def test_network_builders_reject_bad_arguments(arguments, message):
    for build in (build_generator, build_discriminator):
        with pytest.raises(ValueError, match=message):
            build(**arguments)


@pytest.mark.parametrize("arguments", [dict(latent_dim=0), dict(initial_channels=-1)])
def test_generator_rejects_widths_below_one(arguments):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must be an integer >= 1"):
        build_generator(**arguments)


def test_network_discriminator_rejects_an_unknown_hidden_width():
    with pytest.raises(ValueError, match="hidden_channels"):
        build_discriminator(hidden_channels="wide")


def test_feature_maps_match_the_networks():
    assert generator_attention_channels((128, 128), 64) == {4: 1024, 8: 1024, 16: 512, 32: 256, 64: 128, 128: 64}
    assert discriminator_attention_channels((128, 128), 64) == {64: 64, 32: 128, 16: 256, 8: 512, 4: 1024}
