"""TensorFlow's one operation for batch normalisation against the layers' own way in float64, and when it is lent."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from layers.spectral_oracle import relative_error
from training.tiny import fit, make_data, make_gan

from sagan_tf.accelerate import kernels as lent_operations
from sagan_tf.accelerate.kernels import fused_batch_normalization, operations_for
from sagan_tf.accelerate.registry import lending
from sagan_tf.layers import BatchNormalization, ConditionalBatchNormalization

LABEL = np.arange(6) % 3


def noise(shape=(6, 5, 4, 8), seed=1):
    """What bfloat16 can hold, so that nothing is rounded on the way in."""
    x = tf.constant(np.random.default_rng(seed).normal(2, 3, shape))
    return tf.cast(tf.cast(x, tf.bfloat16), tf.float64).numpy()


def parts(make, dtype, operation, label=None):
    """Output, gradients of the map and the weights, moving statistics of one training call; float64."""
    layer = make(dtype=dtype)
    x, label = tf.constant(noise(), layer.compute_dtype), [] if label is None else [tf.constant(label)]
    layer([x, *label] if label else x)
    rng = np.random.default_rng(0)
    layer.set_weights([np.abs(rng.normal(1, 0.3, weight.shape)) for weight in layer.weights])
    with tf.GradientTape() as tape, lending({"normalize": operation}):
        tape.watch(x)
        output = layer([x, *label] if label else x, training=True)
    weights = [weight.value for weight in layer.trainable_weights]
    slopes = tape.gradient(output, [x, *weights], tf.cast(noise(seed=2), output.dtype))
    moving = [weight.value for weight in layer.non_trainable_weights]
    return [np.float64(part) for part in (output, *map(tf.convert_to_tensor, slopes), *moving)]


@pytest.mark.parametrize(("make", "label"), [
    (lambda **options: BatchNormalization(momentum=0.8, **options), None),
    (lambda **options: BatchNormalization(momentum=0.8, center=False, scale=False, **options), None),
    (lambda **options: ConditionalBatchNormalization(3, momentum=0.8, **options), LABEL),
], ids=["plain", "neither scale nor offset", "conditional"])  # fmt: skip
def test_is_batch_normalization(make, label):
    seen = []

    def operation(*arguments):
        seen.append(fused_batch_normalization(*arguments))
        return seen[-1]

    got, want = parts(make, "mixed_bfloat16", operation, label), parts(make, "float64", None, label)
    assert len(seen) == 1 and seen[0] is not None
    *near, mean, variance = (relative_error(a, b) for a, b in zip(got, want, strict=True))
    assert max(near) < 2**-7  # of what is largest: two roundings of bfloat16
    assert max(mean, variance) < 1e-6  # the statistics are in float32, and the variance is no estimate


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_another_dtype_or_rank_is_left_to_the_layer(dtype):
    layer, x = BatchNormalization(dtype=dtype), noise((6, 8) if dtype == "mixed_bfloat16" else (6, 5, 4, 8))
    own = layer(x, training=True)
    with lending({"normalize": fused_batch_normalization}):
        np.testing.assert_array_equal(layer(x, training=True), own)


def test_inference_and_frozen_layers_do_not_ask():
    def operation(*arguments):
        raise AssertionError("asked")

    layer = BatchNormalization(dtype="mixed_bfloat16")
    with lending({"normalize": operation}):
        layer(noise())
        layer(noise(), training=False)
        layer.trainable = False
        layer(noise(), training=True)


@pytest.mark.parametrize("replicas", [1, 2])
def test_one_replica_alone_is_lent_it(replicas):
    if replicas == 1:
        assert operations_for(tf.distribute.get_strategy()) == {"normalize": fused_batch_normalization}
    else:
        assert operations_for(type("Strategy", (), {"num_replicas_in_sync": replicas})) is None


def test_a_training_step_is_that_of_the_layers_own_way(monkeypatch):
    asked, values = [], []

    def counted(*arguments):
        asked.append(arguments[0].shape)
        return fused_batch_normalization(*arguments)

    for operation in (counted, None):
        monkeypatch.setattr(lent_operations, "fused_batch_normalization", operation)
        keras.utils.set_random_seed(0)
        gan = make_gan(dtype="mixed_bfloat16", rate=1e-4, compile_arguments=dict(run_eagerly=True))
        found = fit(gan, make_data(8, 1))
        with_statistics = [w.numpy() for w in gan.generator.weights if "moving" in w.path]
        values.append((found["d_loss"][0], found["g_loss"][0], np.concatenate(with_statistics)))
    assert len(asked) >= 5  # each of the generator's normalisations, in both networks' updates
    (d_loss, g_loss, moving), (own_d_loss, own_g_loss, own_moving) = values
    assert abs(d_loss - own_d_loss) < 0.02 and abs(g_loss - own_g_loss) < 0.02
    assert relative_error(moving, own_moving) < 0.01
