"""Compiled kernels against NumPy float64, and against the reference operations that they replace."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from accelerate.kernel_run import TIMES, results
from hypothesis import given, settings
from hypothesis import strategies as st
from layers.normalization_oracle import FAR_MEANS, keras_errors, normalization_errors
from layers.spectral_oracle import relative_error
from training.tiny import fit, make_data, make_gan

from sagan_tf.accelerate import compiled, fused, use_kernels
from sagan_tf.accelerate.convolution import extract_patches
from sagan_tf.accelerate.selection import kernels_for
from sagan_tf.layers import BatchNormalization, ConditionalBatchNormalization
from sagan_tf.layers.functional import Estimate, convolve
from sagan_tf.networks import build_discriminator, build_generator

TESTS = Path(__file__).resolve().parents[1]
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler"
)
ROUNDING = 2**-8  # of bfloat16, relative
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(1, 40))


@pytest.fixture(scope="module")
def kernels():
    return compiled.kernels()


def noise(shape, seed=0, mean=0.0, scale=1.0):
    """Random numbers that bfloat16 holds: as a bfloat16 tensor and as float64."""
    x = tf.cast(np.random.default_rng(seed).normal(mean, scale, shape), tf.bfloat16)
    return x, tf.cast(x, tf.float64).numpy()


def exact(x):
    return tf.cast(x, tf.float64).numpy()


def rms(x):
    return np.sqrt(np.mean(np.square(x)))


@needs_compiler
@settings(max_examples=40)
@given(shape=SHAPES, together=st.booleans(), mean=st.sampled_from([0.0, 3.0, -100.0]), seed=st.integers(0, 99))
def test_batch_normalize_and_gradients_match_float64(shape, together, mean, seed):
    check_normalization(shape, together, mean, seed)


@needs_compiler
@pytest.mark.parametrize("shape", [(1, 70, 33, 48), (3, 64, 64, 8), (40, 16, 16, 130), (2, 1000, 3), (300, 7)])
@pytest.mark.parametrize("together", [True, False])
def test_batch_normalize_matches_float64_when_split_into_parts(shape, together):
    check_normalization(shape, together, 2.0, 0)


def check_normalization(shape, together, mean, seed):
    (x, of_x), (upstream, g) = noise(shape, seed, mean), noise(shape, seed + 1)
    rng, epsilon = np.random.default_rng(seed), 1e-3
    rows = (1 if together else shape[0], shape[-1])
    scale, offset = (tf.constant(rng.normal(1, 0.5, rows), tf.float32) for _ in range(2))
    with tf.GradientTape() as tape:
        tape.watch([x, scale, offset])
        y, got_mean, got_variance = compiled.kernels()["batch_normalize"].run(x, scale, offset, epsilon, False)
    gradients = tape.gradient(y, [x, scale, offset], upstream)

    axes, spread = tuple(range(len(shape) - 1)), (rows[0], *[1] * (len(shape) - 2), shape[-1])
    s, o = exact(scale).reshape(spread), exact(offset).reshape(spread)
    m, variance = of_x.mean(axes), of_x.var(axes)
    inverse = 1 / np.sqrt(variance + epsilon)
    n = (of_x - m) * inverse
    np.testing.assert_allclose(exact(got_mean), m, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(exact(got_variance), variance, rtol=1e-4, atol=1e-4 * epsilon)
    want = n * s + o
    # Two float32 roundings of x * factor besides the rounding of the result.
    assert np.all(np.abs(exact(y) - want) <= ROUNDING * np.abs(want) + 1e-5 * (1 + np.abs(of_x * inverse * s)))
    gradient = inverse * (s * g - (s * g).mean(axes) - n * (s * g * n).mean(axes))
    allowed = ROUNDING * np.abs(gradient) + 1e-5 * (inverse * np.abs(s) * (1 + np.abs(n)) * (1 + np.abs(g) + abs(mean)))
    assert np.all(np.abs(exact(gradients[0]) - gradient) <= allowed)
    over = axes if together else axes[1:]
    for got, each in zip(gradients[1:], (g * n, g)):
        np.testing.assert_allclose(exact(got), each.sum(over).reshape(rows), rtol=1e-4, atol=1e-4 * (1 + rms(n)))


@needs_compiler
@pytest.mark.parametrize("make", [BatchNormalization, functools.partial(ConditionalBatchNormalization, 3)])
@pytest.mark.parametrize("outlier", [False, True])
@pytest.mark.parametrize("mean", FAR_MEANS)
def test_batch_normalize_is_as_exact_as_keras_when_mean_is_far(make, outlier, mean, kernels):
    errors = normalization_errors(make, mean, "mixed_bfloat16", kernels, outlier)
    assert np.all(errors <= 1.01 * keras_errors(mean, "mixed_bfloat16", outlier=outlier))


@needs_compiler
def test_batch_normalize_supports_bfloat16_only(kernels):
    rows = tf.ones((1, 3))
    assert not kernels["batch_normalize"].supports(tf.ones((2, 4, 4, 3)), rows, rows, 1e-3, False)
    assert kernels["batch_normalize"].supports(tf.ones((2, 4, 4, 3), tf.bfloat16), rows, rows, 1e-3, False)


@needs_compiler
def test_batch_normalize_rejects_wrong_shapes(kernels):
    rows = tf.ones((1, 3))
    for x, scale in ((tf.ones((2, 4, 3)), tf.ones((1, 4))), (tf.ones((2, 4, 3)), tf.ones((3, 3))),
                     (tf.ones((0, 4, 3)), rows), (tf.ones((3,)), rows)):  # fmt: skip
        with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
            kernels["batch_normalize"].run(tf.cast(x, tf.bfloat16), scale, scale, 1e-3, False)


@needs_compiler
def test_relu_equals_tensorflow_bit_for_bit(kernels):
    values = [0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, 2e-38, -2e-38, 3e38]  # TensorFlow flushes smaller numbers to zero
    x = tf.constant(np.tile(values, 5000)[:40_001], tf.bfloat16)
    upstream, _ = noise(x.shape)
    results = []
    for relu in (kernels["relu"].run, tf.nn.relu):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = relu(x)
        results.append([tf.bitcast(part, tf.uint16).numpy() for part in (y, tape.gradient(y, x, upstream))])
    # Zeros have two signs, and TensorFlow keeps that of a negative one.
    unsigned = [[np.where(part == 0x8000, 0, part) for part in both] for both in results]
    (y, gradient), (want, want_gradient) = unsigned
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(gradient, want_gradient)
    nan = tf.bitcast(tf.constant([0x7FC0, 0xFFC0], tf.uint16), tf.bfloat16)
    assert np.isnan(exact(kernels["relu"].run(nan))).all()
    assert not kernels["relu"].supports(tf.ones((3,)))


@needs_compiler
@pytest.mark.parametrize(("shape", "kernel"), [
    ((1, 1, 1, 1), (3, 3)), ((2, 4, 5, 3), (3, 3)), ((3, 8, 8, 40), (3, 3)), ((2, 4, 4, 2), (1, 5)),
])  # fmt: skip
def test_extract_patches_matches_numpy(shape, kernel, kernels):
    x, of_x = noise(shape)
    padded = np.pad(of_x, ((0, 0), (kernel[0] // 2,) * 2, (kernel[1] // 2,) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, (1, 2))  # (B, H, W, C, kh, kw)
    want = np.moveaxis(windows, 3, -1).reshape(*shape[:3], -1)
    for extract in (kernels["extract_patches"].run, extract_patches):
        np.testing.assert_array_equal(exact(extract(x, *kernel)), want)


@needs_compiler
@pytest.mark.parametrize("size", [4, 8])
def test_convolution_on_small_map_uses_extract_patches_and_gives_the_same_bits(size, kernels):
    (x, _), (kernel, _), (upstream, _) = (
        noise(shape, 1) for shape in ((2, size, size, 5), (3, 3, 5, 7), (2, size, size, 7))
    )

    def gradients(used):
        @tf.function
        def run():
            with tf.GradientTape() as tape, use_kernels(used):
                tape.watch([x, kernel])
                y = convolve(x, kernel)
                return y, *tape.gradient(y, [x, kernel], upstream)

        graph = run.get_concrete_function().graph
        return [exact(part) for part in run()], "SaganTfPatches" in {op.type for op in graph.get_operations()}

    (want, without), (found, is_used) = gradients({}), gradients(kernels)
    assert is_used and not without
    for one, other in zip(found, want, strict=True):
        np.testing.assert_array_equal(one, other)


@needs_compiler
@settings(max_examples=30)
@given(rows=st.integers(1, 200), columns=st.integers(1, 200), iterations=st.integers(1, 3), seed=st.integers(0, 99))
def test_power_iterations_match_float64(rows, columns, iterations, seed):
    check_singular_vectors(rows, columns, iterations, seed)


@needs_compiler
def test_power_iterations_match_float64_when_split_into_parts():
    check_singular_vectors(4608, 512, 1, 0)


def check_singular_vectors(rows, columns, iterations, seed):
    rng = np.random.default_rng(seed)
    matrix, u = rng.normal(size=(rows, columns)).astype("float32"), rng.normal(size=columns).astype("float32")
    found = compiled.kernels()["power_iterations"].run([tf.constant(matrix)], [tf.constant(u)], iterations, 1e-12)
    matrix, u = matrix.astype(np.float64), u.astype(np.float64)
    for _ in range(iterations):
        v = matrix @ u / np.linalg.norm(matrix @ u)
        u = v @ matrix / np.linalg.norm(v @ matrix)
    for (got,), want in zip(found, (u, v, u @ (v @ matrix)), strict=True):
        assert relative_error(got, want) < 2e-5


@pytest.mark.slow
@needs_compiler
def test_compiled_kernels_give_the_same_bits_with_any_number_of_threads(tmp_path):
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    command = [sys.executable, str(TESTS / "accelerate" / "kernel_run.py"), str(tmp_path / "found.npz")]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": paths, "TF_NUM_INTRAOP_THREADS": "4"}, check=True)
    wanted, found = results(), list(np.load(tmp_path / "found.npz").values())
    assert len(found) == TIMES * len(wanted) > 30
    for one, other in zip(TIMES * wanted, found):
        np.testing.assert_array_equal(one, other)


@needs_compiler
def test_power_iterations_keep_u_when_kernel_is_zero(kernels):
    (u,), (v,), sigma = kernels["power_iterations"].run([tf.zeros((6, 3))], [tf.constant([1.0, 2.0, 3.0])], 2, 1e-12)
    np.testing.assert_array_equal(u, [1, 2, 3])
    np.testing.assert_array_equal(v, np.zeros(6))
    assert float(sigma[0]) == 0


@needs_compiler
@pytest.mark.parametrize("shape", [(1, 1), (27, 5), (4608, 130)])
def test_divide_by_sigma_has_the_gradient_through_sigma(shape, kernels):
    rng = np.random.default_rng(0)
    kernel, u, v = rng.normal(size=shape), rng.normal(size=shape[1]), rng.normal(size=shape[0])
    u *= np.sign(v @ kernel @ u)  # so that sigma is positive
    kernel, u, v = (tf.constant(x, tf.float32) for x in (kernel, u, v))
    upstream, g = noise(shape)
    w, u64, v64 = exact(kernel), exact(u), exact(v)
    with tf.GradientTape() as tape:
        w64 = tf.constant(w)
        tape.watch(w64)
        sigma = tf.reduce_sum(v64[:, None] * w64 * u64)
        scaled64 = w64 / sigma
    want = tape.gradient(scaled64, w64, g)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        estimate = Estimate(u, v, *(tf.cast(x, tf.float32) for x in (1 / sigma, -1 / sigma**2)))
        scaled = kernels["divide_by_sigma"].run(kernel, estimate, (-1,), "float32", "bfloat16")
    assert relative_error(scaled, scaled64) < ROUNDING
    gradient = tape.gradient(scaled, kernel, upstream)
    # Relative to the two terms, which may nearly cancel.
    assert np.abs(exact(gradient) - want).max() < 1e-4 * (np.abs(want).max() + np.abs(g / exact(sigma)).max())


@pytest.mark.slow
@needs_compiler
def test_network_gradients_with_compiled_kernels_are_as_exact_as_without(kernels):
    arguments = dict(image_size=32, channels=16, num_classes=3, attention_sizes=(16,))
    rng = np.random.default_rng(0)
    label = tf.constant(rng.integers(0, 3, 16), tf.int32)
    for build, inputs in ((build_generator, rng.normal(size=(16, 128))),
                          (build_discriminator, rng.normal(size=(16, 32, 32, 3)))):  # fmt: skip
        exact_one, mixed = (build(**arguments, dtype=dtype) for dtype in ("float64", "mixed_bfloat16"))
        exact_one.get_layer("attention_16").gamma.assign(0.5)
        start = [weight.numpy() for weight in exact_one.weights]
        inputs = tf.constant(inputs)
        gradient = rng.normal(size=exact_one([inputs, label]).shape)

        def gradients_of(network, used):
            for weight, value in zip(network.weights, start, strict=True):
                weight.assign(value)
            with tf.GradientTape() as tape, use_kernels(used):
                outputs = network([tf.cast(inputs, network.inputs[0].dtype), label], training=True)
                loss = tf.reduce_sum(tf.cast(outputs, tf.float64) * gradient)
                found = tape.gradient(loss, [weight.value for weight in network.trainable_variables])
            return [exact(each) for each in found]

        want = gradients_of(exact_one, {})
        scale = np.sqrt(sum(np.square(each).sum() for each in want))
        own, native = (
            np.sqrt(sum(np.square(a - b).sum() for a, b in zip(gradients_of(mixed, each), want, strict=True))) / scale
            for each in (kernels_for(tf.distribute.get_strategy()), kernels)
        )
        # Two realizations of bfloat16's rounding.
        assert native < 1.3 * own and native < 0.3, (build.__name__, native, own)


@pytest.mark.slow
@needs_compiler
def test_training_step_uses_compiled_kernels_and_matches_reference():
    found, types = [], []
    for native in (False, True):
        keras.utils.set_random_seed(0)
        options = dict(native_operations=native, r1_weight=1.0)
        gan = make_gan(dtype="mixed_bfloat16", rate=1e-4, compile_arguments=options)
        dataset = make_data(8, 2)
        history = fit(gan, dataset)
        values = np.concatenate([np.ravel(w.numpy()) for w in gan.weights if w.dtype == "float32"])
        found.append((history["d_loss"][0], history["g_loss"][0], history["r1"][0], values))
        graph = gan.traced_function.get_concrete_function(iter(dataset)).graph
        types.append({operation.type for operation in graph.get_operations() if operation.type.startswith("SaganTf")})
    assert not types[0]
    assert types[1] == {f"SaganTf{name}" for name in (
        "Normalize", "NormalizeGrad", "Relu", "ReluGrad", "SingularVectors", "ScaleKernel", "ScaleKernelGrad",
    )}  # fmt: skip
    for one, other in zip(found[0], found[1]):
        assert relative_error(np.atleast_1d(other), np.atleast_1d(one)) < 0.03


def test_compiled_kernels_are_unused_with_xla_or_several_replicas():
    with pytest.raises(ValueError, match="XLA cannot compile `native_operations`"):
        make_gan(compile_arguments=dict(native_operations=True, jit_compile=True))
    found = kernels_for(type("Strategy", (), {"num_replicas_in_sync": 2}), use_compiled=True)
    assert found.keys() == fused.kernels().keys()
