"""TensorFlow's fused batch normalization against the reference in float64, and when it is used."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from layers.normalization_oracle import FAR_MEANS, keras_errors, normalization_errors
from layers.spectral_oracle import relative_error
from training.tiny import fit, make_data, make_gan

from sagan_tf.accelerate import fused, use_kernels
from sagan_tf.accelerate.registry import Kernel
from sagan_tf.accelerate.selection import kernels_for
from sagan_tf.layers import BatchNormalization, ConditionalBatchNormalization
from sagan_tf.layers.functional import update_moving_average

LABEL = np.arange(6) % 3


def noise(shape=(6, 5, 4, 8), seed=1):
    """Random numbers that bfloat16 holds exactly, so that inputs are not rounded."""
    x = tf.constant(np.random.default_rng(seed).normal(2, 3, shape))
    return tf.cast(tf.cast(x, tf.bfloat16), tf.float64).numpy()


def train_call(make, dtype, kernels, label=None):
    """Output, gradients of the map and the weights, moving statistics of one training call; float64."""
    layer = make(dtype=dtype)
    x, label = tf.constant(noise(), layer.compute_dtype), [] if label is None else [tf.constant(label)]
    layer([x, *label] if label else x)
    rng = np.random.default_rng(0)
    layer.set_weights([np.abs(rng.normal(1, 0.3, weight.shape)) for weight in layer.weights])
    with tf.GradientTape() as tape, use_kernels(kernels):
        tape.watch(x)
        output = layer([x, *label] if label else x, training=True)
    weights = [weight.value for weight in layer.trainable_weights]
    gradients = tape.gradient(output, [x, *weights], tf.cast(noise(seed=2), output.dtype))
    moving = [weight.value for weight in layer.non_trainable_weights]
    return [np.float64(part) for part in (output, *map(tf.convert_to_tensor, gradients), *moving)]


def counted(calls):
    """The fused kernel, which records the shape of each map that it runs on."""
    run, supports = fused.kernels()["batch_normalize"]
    return {"batch_normalize": Kernel(lambda x, *rest: calls.append(x.shape) or run(x, *rest), supports)}


@pytest.mark.parametrize(("dtype", "tolerance"), [("mixed_bfloat16", 2**-7), ("float32", 2e-6)])
@pytest.mark.parametrize(("make", "label"), [
    (lambda **options: BatchNormalization(momentum=0.8, **options), None),
    (lambda **options: BatchNormalization(momentum=0.8, center=False, scale=False, **options), None),
    (lambda **options: ConditionalBatchNormalization(3, momentum=0.8, **options), LABEL),
], ids=["plain", "neither scale nor offset", "conditional"])  # fmt: skip
def test_fused_batch_normalize_matches_float64(make, label, dtype, tolerance, monkeypatch):
    monkeypatch.setattr(fused, "is_on_gpu", lambda: dtype == "float32")
    calls = []
    got, want = train_call(make, dtype, counted(calls), label), train_call(make, "float64", {}, label)
    assert len(calls) == 1
    *rounded, mean, variance = (relative_error(a, b) for a, b in zip(got, want, strict=True))
    assert max(rounded) < tolerance  # relative to the largest: two roundings of bfloat16
    assert max(mean, variance) < 1e-6  # statistics are in float32, and the variance is not the unbiased estimate


@pytest.mark.parametrize("make", [BatchNormalization, functools.partial(ConditionalBatchNormalization, 3)])
@pytest.mark.parametrize("mean", FAR_MEANS)
def test_fused_batch_normalize_is_as_exact_as_keras_when_mean_is_far(make, mean):
    errors = normalization_errors(make, mean, "mixed_bfloat16", fused.kernels())
    # With a scale per image, the map is rounded to bfloat16 once more.
    assert np.all(errors <= 1.01 * keras_errors(mean, "mixed_bfloat16") + 2**-6 * np.array([0, 1, 1]))


@pytest.mark.parametrize(
    ("dtype", "shape"), [("float64", (6, 5, 4, 8)), ("float32", (6, 5, 4, 8)), ("mixed_bfloat16", (6, 8))]
)
def test_fused_batch_normalize_is_unused_on_a_cpu_without_bfloat16_or_for_other_rank(dtype, shape):
    layer, x = BatchNormalization(dtype=dtype), noise(shape)
    own, calls = layer(x, training=True), []
    with use_kernels(counted(calls)):
        np.testing.assert_array_equal(layer(x, training=True), own)
    assert not calls


def test_fused_batch_normalize_is_unused_at_inference_or_when_frozen():
    layer, calls = BatchNormalization(dtype="mixed_bfloat16"), []
    with use_kernels(counted(calls)):
        layer(noise())
        layer(noise(), training=False)
        layer.trainable = False
        layer(noise(), training=True)
    assert not calls


def test_fused_batch_normalize_is_unused_for_statistics_of_several_replicas(monkeypatch):
    kernel, rows, x = fused.kernels()["batch_normalize"], tf.ones((1, 8)), tf.ones((6, 5, 4, 8), tf.bfloat16)
    assert kernel.supports(x, rows, rows, 1e-3, True)
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: type("Strategy", (), {"num_replicas_in_sync": 2}))
    assert not kernel.supports(x, rows, rows, 1e-3, True)
    assert kernel.supports(x, rows, rows, 1e-3, False)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fused_update_of_moving_average_equals_reference(dtype):
    rng, moved = np.random.default_rng(0), []
    start, target = rng.normal(size=(2, 5))
    for kernels in (fused.kernels(), {}):
        variable = keras.Variable(start, dtype=dtype)
        with use_kernels(kernels):
            update_moving_average(variable, tf.constant(target, dtype), 0.1)
        moved.append(variable.numpy())
    np.testing.assert_allclose(*moved, rtol=1e-6)
    np.testing.assert_allclose(moved[0], 0.9 * start + 0.1 * target, rtol=1e-6)


@pytest.mark.parametrize("mean", [0, 1000])
def test_batch_normalization_compiled_by_xla_is_exact_when_mean_is_far(mean, monkeypatch):
    monkeypatch.setattr(fused, "is_on_gpu", lambda: True)
    x = np.random.default_rng(0).normal(mean, 1, (4, 8, 8, 3)).astype("float32")
    x[..., 0] = mean  # a constant channel
    layer = BatchNormalization(epsilon=1e-5)
    layer.build(x.shape)
    with use_kernels(kernels_for(tf.distribute.get_strategy(), is_xla=True)):
        output = tf.function(lambda x: layer(x, training=True), jit_compile=True)(x)
    exact = np.float64(x)
    want = (exact - exact.mean((0, 1, 2))) / np.sqrt(exact.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(output, want, atol=5e-6 * max(mean, 1))  # of the mean, rounded


def test_training_step_with_fused_batch_normalize_matches_reference(monkeypatch):
    calls, results = [], []
    for kernels in (counted(calls), {}):
        monkeypatch.setattr(fused, "kernels", lambda kernels=kernels: kernels)
        keras.utils.set_random_seed(0)
        gan = make_gan(dtype="mixed_bfloat16", rate=1e-4, compile_arguments=dict(run_eagerly=True))
        history = fit(gan, make_data(8, 1))
        statistics = np.concatenate([w.numpy() for w in gan.generator.weights if "moving" in w.path])
        results.append((history["d_loss"][0], history["g_loss"][0], statistics))
    assert len(calls) == 4  # both normalizations of the generator, in the updates of both networks
    (d_loss, g_loss, moving), (own_d_loss, own_g_loss, own_moving) = results
    assert abs(d_loss - own_d_loss) < 0.02 and abs(g_loss - own_g_loss) < 0.02
    assert relative_error(moving, own_moving) < 0.01
