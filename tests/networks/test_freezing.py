"""Frozen blocks: which layers, and that neither their weights nor u nor batch statistics move in training."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from sagan_tf.networks import build_discriminator, build_generator
from sagan_tf.networks.freezing import freeze_blocks, frozen_parts
from sagan_tf.networks.named_weights import weights_by_name
from sagan_tf.training import SAGAN
from sagan_tf.training.loss_scale import loss_scaling_optimizers

SIZES = dict(image_size=32, channels=4, num_classes=2, attention_sizes=(16,))
ATTENTION = dict(key_reduction=4)


def make_gan(generator=1, discriminator=1, compiled=True, **options):
    options = {**SIZES, "attention_options": ATTENTION, **options}
    gan = SAGAN(
        build_generator(**options), build_discriminator(**options), ema_decay=0.5,
        frozen_generator_blocks=generator, frozen_discriminator_blocks=discriminator,
    )  # fmt: skip
    if compiled:
        gan.compile(keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1), run_eagerly=True)
    return gan


@pytest.mark.parametrize(
    "build, kind, count, parts",
    [
        (build_discriminator, "discriminator", 0, set()),
        (build_discriminator, "discriminator", 1, {"block_1", "attention_16"}),
        (build_discriminator, "discriminator", 4, {"block_1", "attention_16", "block_2", "block_3", "block_4"}),
        (build_generator, "generator", 1, {"block_32", "output_norm", "output_conv"}),
        (build_generator, "generator", 2, {"attention_16", "block_16", "block_32", "output_norm", "output_conv"}),
    ],
)
def test_freeze_blocks_freezes_those_nearest_to_the_image(build, kind, count, parts):
    network = build(**{**SIZES, "num_classes": None}, attention_options=ATTENTION)
    freeze_blocks(network, count, kind)
    assert frozen_parts(network) == parts


@pytest.mark.parametrize("count", [-1, 5])
def test_freeze_blocks_rejects_more_than_there_are(count):
    with pytest.raises(ValueError, match="frozen blocks of the discriminator must be 0 to 4"):
        freeze_blocks(build_discriminator(**SIZES, attention_options=ATTENTION), count, "discriminator")


def is_frozen(network, path):
    if network != "discriminator":  # all of the last block and of the output but the class tables
        return path.startswith("output") or path.startswith("block_32") and not path.endswith(("/gamma", "/beta"))
    return path.startswith(("block_1", "attention_16"))


def train_a_step(gan):
    rng = np.random.default_rng(0)
    for network in (gan.generator, gan.discriminator):
        for layer in network.layers:
            if layer.name.startswith("attention"):
                layer.gamma.assign(0.5)  # 0, at the start, hides its inputs from the gradient
    before = {(kind, w.path): w.numpy() for kind in KINDS for w in getattr(gan, kind).weights}
    images, labels = rng.uniform(-1, 1, (4, 32, 32, 3)).astype("float32"), np.array([0, 1, 0, 1])
    gan.fit(tf.data.Dataset.from_tensors((images, labels)).repeat(2), shuffle=False, verbose=0)
    return {
        (kind, w.path): np.array_equal(w, before[kind, w.path]) for kind in KINDS for w in getattr(gan, kind).weights
    }


KINDS = ("generator", "ema_generator", "discriminator")


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_training_moves_all_but_frozen_weights(dtype):
    gan = make_gan(dtype=dtype)
    for optimizer in loss_scaling_optimizers(gan).values():
        optimizer.dynamic_scale.assign(1.0)  # so that no step is skipped
    is_unmoved = train_a_step(gan)
    frozen, unmoved = {key for key in is_unmoved if is_frozen(*key)}, {key for key, same in is_unmoved.items() if same}
    assert frozen <= unmoved and any(path.endswith("/u") for _, path in frozen)
    # Those of the hinge loss cancel in the last bias; some in float16 underflow.
    others = {key for key in unmoved - frozen if not key[1].startswith("output_dense")}
    assert not others if dtype == "float32" else len(others) < len(is_unmoved) - len(frozen)


def test_frozen_blocks_survive_saving_and_leave_the_average_trainable(tmp_path):
    gan = make_gan()
    gan.save(tmp_path / "gan.keras")
    loaded = keras.models.load_model(tmp_path / "gan.keras")
    for kind in ("generator", "discriminator"):
        shapes = [[w.shape for w in getattr(one, kind).trainable_weights] for one in (gan, loaded)]
        assert shapes[0] == shapes[1]
        assert frozen_parts(getattr(gan, kind)) == frozen_parts(getattr(loaded, kind))
        assert [*weights_by_name(getattr(gan, kind))] == [*weights_by_name(getattr(loaded, kind))]
        assert len(shapes[0]) < len(getattr(make_gan(0, 0, compiled=False), kind).trainable_weights)
    for layer in loaded.ema_generator._flatten_layers():
        assert layer.trainable
    norm = loaded.generator.get_layer("block_32_norm_1")
    assert norm.trainable and not norm.normalization.trainable
