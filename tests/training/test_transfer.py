"""Weights taken from other networks are theirs bit by bit, class tables by the name of the class."""

import keras
import numpy as np
import pytest
from toy_networks import toy_discriminator, toy_generator
from training.tiny import make_gan

from sagan_tf.layers import SpectralNormalization
from sagan_tf.networks import build_discriminator, build_generator
from sagan_tf.networks.freezing import freeze_blocks
from sagan_tf.networks.named_weights import weights_by_name
from sagan_tf.training import SAGAN
from sagan_tf.training.transfer import Weights

NETWORKS = ("generator", "ema_generator", "discriminator")


def toy_gan(num_classes, seed, **options):
    """A SAGAN of toy networks with random weights."""
    gan = SAGAN(*(build(num_classes=num_classes, **options) for build in (toy_generator, toy_discriminator)))
    rng = np.random.default_rng(seed)
    for name in NETWORKS:
        for weight in getattr(gan, name).weights:
            weight.assign(rng.uniform(0.5, 1, weight.shape))
    return gan


def arrays_of(gan):
    named = {name: weights_by_name(getattr(gan, name)) for name in NETWORKS}
    return {(name, key): weight.numpy() for name, weights in named.items() for key, weight in weights.items()}


def is_table(name):
    return name.startswith(("block_32_norm/gamma", "block_32_norm/beta", "embedding/"))


def test_load_weights_from_copies_all_bit_by_bit():
    source, gan = toy_gan(3, 0), toy_gan(3, 1)
    gan.load_weights_from(source)
    for key, value in arrays_of(source).items():
        np.testing.assert_array_equal(arrays_of(gan)[key], value, str(key))


@pytest.mark.parametrize("new_classes", ["mean", "random"])
def test_load_weights_from_takes_class_tables_by_name(new_classes):
    source, gan = toy_gan(3, 0), toy_gan(4, 1)
    old, drawn = arrays_of(source), arrays_of(gan)
    weights = Weights.of(source, "old", ("cat", "dog", "owl"))
    transfer = gan.load_weights_from(weights, ("ant", "owl", "cat", "bee"), new_classes)
    new = arrays_of(gan)
    tables = [key for key in new if is_table(key[1])]
    assert len(tables) == 2 * 2 + 2
    for key in new:
        if key not in tables:
            np.testing.assert_array_equal(new[key], old[key])
            continue
        np.testing.assert_array_equal(new[key][[1, 2]], old[key][[2, 0]])
        fresh = drawn[key] if new_classes == "random" else np.broadcast_to(old[key].mean(axis=0), new[key].shape)
        np.testing.assert_allclose(new[key][[0, 3]], fresh[[0, 3]], rtol=1e-6)
    lines = str(transfer).splitlines()
    assert lines[0].split() == ["network", "part", "weights", "outcome"]
    assert lines[1].split() == ["generator", "dense", "3", "taken"]
    assert "classes taken: owl, cat" in lines and "classes left: dog" in lines and lines[-2].endswith(": ant, bee")


def test_load_weights_from_generator_leaves_discriminator_as_drawn():
    source, gan = toy_gan(3, 0), toy_gan(3, 1)
    old, drawn = arrays_of(source), arrays_of(gan)
    transfer = gan.load_weights_from(source.ema_generator)
    for (name, key), value in arrays_of(gan).items():
        expected = drawn[name, key] if name == "discriminator" else old["ema_generator", key]
        np.testing.assert_array_equal(value, expected)
    assert not transfer.new_parts("generator")
    assert transfer.new_parts("discriminator") == {"block_1", "attention_16", "output_dense", "embedding"}


def test_load_weights_from_other_image_size_takes_blocks_that_fit():
    def build(size):
        options = dict(channels=1, num_classes=None, attention_sizes=())
        return SAGAN(build_generator(size, **options), build_discriminator(size, **options), ema_decay=None)

    source, gan = build(128), build(256)
    old, drawn = arrays_of_pair(source), arrays_of_pair(gan)
    transfer = gan.load_weights_from(source)
    # Widths 16 16 8 4 2 1 and 16 16 8 8 4 2 1: the inserted block is new, and those after it are equally far from the
    # output.
    origins = {
        "generator": {8: 8, 16: 16, 64: 32, 128: 64, 256: 128},
        "discriminator": {1: 1, 2: 2, 3: 3, 4: 4, 6: 5, 7: 6},
    }
    assert transfer.new_parts("generator") == {"block_32"} and transfer.new_parts("discriminator") == {"block_5"}
    for (name, key), value in arrays_of_pair(gan).items():
        part, rest = key.split("_", 2)[:2], key.split("_", 2)[-1]
        if part[0] != "block":
            np.testing.assert_array_equal(value, old[name, key])
            continue
        origin = origins[name].get(int(part[1]))
        expected = drawn[name, key] if origin is None else old[name, f"block_{origin}_{rest}"]
        np.testing.assert_array_equal(value, expected)
    rows = [line.split()[:2] + line.split()[3:] for line in str(transfer).splitlines()]
    assert ["generator", "block_64", "taken:", "from", "block_32"] in rows


def test_table_lists_every_part_of_the_source_of_another_image_size():
    def build(size):
        options = dict(channels=1, num_classes=None, attention_sizes=())
        return SAGAN(build_generator(size, **options), build_discriminator(size, **options), ema_decay=None)

    transfer = build(64).load_weights_from(build(128))
    rows = {(part.network, part.name): part for part in transfer.parts if part.outcome == "left"}
    # Blocks 8 to 64 are those of 16 to 128 there; block 5 of the discriminator is the last one here.
    assert set(rows) == {("generator", "block_8"), ("discriminator", "block_6")}
    (last,) = [part for part in transfer.parts if part.name == "block_5" and part.outcome == "taken"]
    assert last.note == "block_5_conv_2.resampling is down at the source, None here"


def arrays_of_pair(gan):
    return {key: value for key, value in arrays_of(gan).items() if key[0] != "ema_generator"}


def test_load_weights_from_rejects_what_does_not_fit():
    gan = toy_gan(3, 0)
    before = arrays_of(gan)
    with pytest.raises(ValueError, match="has no classes, and the networks to train have 3"):
        gan.load_weights_from(toy_gan(None, 1))
    with pytest.raises(ValueError, match=r"no weights of the source fit .* to train: dense/kernel is \(128, 64\)"):
        gan.load_weights_from(toy_gan(3, 1, channels=4, attention_sizes=(), image_channels=1))
    with pytest.raises(ValueError, match="must name 3 classes"):
        gan.load_weights_from(toy_gan(3, 1), ("a", "b"))
    with pytest.raises(ValueError, match="`new_classes` must be one of mean, random"):
        gan.load_weights_from(toy_gan(3, 1), new_classes="zero")
    for key, value in arrays_of(gan).items():
        np.testing.assert_array_equal(value, before[key])


def test_classes_without_names_are_taken_by_number_if_equally_many():
    source, gan, other = toy_gan(3, 0), toy_gan(3, 1), toy_gan(2, 1)
    gan.load_weights_from(Weights.of(source), ("a", "b", "c"))
    key = ("discriminator", "embedding/embeddings")
    np.testing.assert_array_equal(arrays_of(gan)[key], arrays_of(source)[key])
    assert "all 2 new (mean of all classes" in str(other.load_weights_from(source, ("a", "b")))


def test_u_is_kept_where_the_source_has_none():
    source = keras.models.clone_model(toy_generator())
    weights = Weights.of(source)
    for name in [key for key in weights.networks["generator"] if key.endswith("/u")]:
        del weights.networks["generator"][name]
    gan = make_gan(attention_sizes=(16,))
    before = weights_by_name(gan.generator)["dense/u"].numpy()
    gan.load_weights_from(weights)
    np.testing.assert_array_equal(weights_by_name(gan.generator)["dense/u"], before)
    np.testing.assert_array_equal(
        weights_by_name(gan.generator)["dense/kernel"], weights_by_name(source)["dense/kernel"]
    )


def test_first_layer_of_a_transposed_rectangle_is_new():
    # The same number of units, in another order of rows and columns.
    source, gan = (toy_gan(3, seed, image_size=size) for seed, size in enumerate([(24, 40), (40, 24)]))
    drawn, old = arrays_of(gan), arrays_of(source)
    transfer = gan.load_weights_from(source)
    assert transfer.new_parts("generator") == {"dense"} and not transfer.new_parts("discriminator")
    assert "reshape.target_shape is (3, 5, " in str(transfer)
    for (name, key), value in arrays_of(gan).items():
        expected = drawn if "generator" in name and key.startswith("dense/") else old
        np.testing.assert_array_equal(value, expected[name, key])


def test_part_with_more_weights_at_the_source_is_new():
    def build(output_projection):
        attention = dict(value_reduction=1, key_reduction=4, output_projection=output_projection)
        return toy_gan(3, 0, attention_options=attention)

    transfer = build(False).load_weights_from(build(True))
    assert transfer.new_parts("generator") == transfer.new_parts("discriminator") == {"attention_16"}
    assert "of the source is not in this network" in str(transfer)


def test_table_says_what_weights_do_not_show():
    source = toy_gan(3, 0, spectral_normalization=False, attention_options=dict(key_reduction=4, pool_size=1))
    gan = toy_gan(3, 1, attention_options=dict(key_reduction=4, pool_size=2))
    lines = {tuple(line.split()[:2]): line for line in str(gan.load_weights_from(source)).splitlines()}
    note = "taken: attention_16.pool_size is 1 at the source, 2 here"
    assert note in lines["generator", "attention_16"] and note in lines["discriminator", "attention_16"]
    assert lines["generator", "dense"].endswith("the source has none: it does not divide by sigma")


def test_networks_without_spectral_normalization_take_kernels_over_sigma():
    source, gan = toy_gan(3, 0), toy_gan(3, 1, spectral_normalization=False)
    lines = str(gan.load_weights_from(source)).splitlines()
    assert any(line.endswith("taken: divided by sigma, as at the source") for line in lines)
    rng = np.random.default_rng(0)
    inputs = {"generator": rng.normal(size=(2, source.latent_dim)), "discriminator": rng.normal(size=(2, 32, 32, 3))}
    for name, x in inputs.items():
        x, label = keras.ops.convert_to_tensor(x.astype("float32")), keras.ops.convert_to_tensor([0, 2])
        here, there = (getattr(each, name)([x, label], training=False) for each in (gan, source))
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-5)


def test_load_weights_from_warns_of_frozen_parts_that_were_not_taken():
    source, gan = toy_gan(3, 0), toy_gan(3, 1)
    freeze_blocks(gan.discriminator, 1, "discriminator")
    with pytest.warns(UserWarning, match="Frozen parts of the discriminator stay as they were: attention_16, block_1"):
        gan.load_weights_from(source.ema_generator)


def test_kernels_that_were_not_divided_are_named():
    """Of a layer with several kernels the sigmas are not kept; one that was never called has none."""

    def build(wrap):
        image = keras.Input((32, 32, 3))
        x = wrap(keras.layers.SeparableConv2D(4, 3, name="several"))(image)
        x = wrap(keras.layers.Conv2D(1, 3, name="one"))(x)
        network = keras.Model(image, Reshape(name="reshape")(x))
        network.unused = wrap(keras.layers.Dense(2))
        return network

    class Reshape(keras.layers.Layer):
        """Has no `target_shape`."""

        def call(self, inputs):
            return inputs

    generator = toy_generator(num_classes=None)
    wraps = (lambda layer: SpectralNormalization(layer, name=layer.name)), (lambda layer: layer)
    source, gan = (SAGAN(generator, build(wrap)) for wrap in wraps)
    lines = [line for line in str(gan.load_weights_from(source)).splitlines() if line.startswith("discriminator")]
    assert [line.partition("taken: ")[2] for line in lines] == [
        "spectrally normalized at the source, not here", "divided by sigma, as at the source",
    ]  # fmt: skip


@pytest.mark.parametrize("names", [["a"], list("abcde")])
def test_weights_with_another_number_of_names_are_rejected(names):
    with pytest.raises(ValueError, match="must name the 3 classes. Received: [15] names"):
        Weights("source", {}, 3, names)


def test_load_weights_from_rejects_equal_names_of_classes():
    gan = toy_gan(3, 0)
    for names in [("a", "b", "a"), ("a", "b", "c")], [("a", "b", "c"), ("x", "x", "b")]:
        with pytest.raises(ValueError, match="the names of the classes must differ"):
            gan.load_weights_from(Weights.of(toy_gan(3, 1), "old", names[0]), names[1])


def test_load_weights_from_path_says_what_reads_it():
    with pytest.raises(TypeError, match="`sagan_tf.read_weights` reads those of a run folder.*'runs/cats'"):
        toy_gan(3, 0).load_weights_from("runs/cats")


def test_frozen_parts_are_those_of_a_generator_without_average():
    source, gan = toy_gan(3, 0), toy_gan(3, 1)
    freeze_blocks(gan.generator, 1, "generator")
    gan.load_weights_from(Weights.of({"generator": source.generator}))
    for network in ("generator", "ema_generator"):
        for key, value in weights_by_name(getattr(gan, network)).items():
            np.testing.assert_array_equal(value, weights_by_name(source.generator)[key])
