"""Operations of our own against NumPy in float64, against what the layers do without them."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from layers.spectral_oracle import relative_error
from training.tiny import fit, make_data, make_gan

from sagan_tf.accelerate import compiled as native_operations
from sagan_tf.accelerate.kernels import operations_for
from sagan_tf.accelerate.registry import lending
from sagan_tf.layers.sums import add_bias
from sagan_tf.networks import build_discriminator, build_generator

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler"
)
ROUNDING = 2**-8  # of bfloat16, relative
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(1, 40))


@pytest.fixture(scope="module")
def lent():
    return native_operations.lendable()


def noise(shape, seed=0, mean=0.0, scale=1.0):
    """Random numbers that bfloat16 holds: as a bfloat16 tensor and as float64."""
    x = tf.cast(np.random.default_rng(seed).normal(mean, scale, shape), tf.bfloat16)
    return x, tf.cast(x, tf.float64).numpy()


def exact(x):
    return tf.cast(x, tf.float64).numpy()


def rms(x):
    return np.sqrt(np.mean(np.square(x)))


@needs_compiler
@settings(deadline=None, max_examples=40)
@given(shape=SHAPES, together=st.booleans(), mean=st.sampled_from([0.0, 3.0, -100.0]), seed=st.integers(0, 99))
def test_normalization_and_its_gradients(shape, together, mean, seed):
    check_normalization(shape, together, mean, seed)


@needs_compiler
@pytest.mark.parametrize("shape", [(1, 70, 33, 48), (3, 64, 64, 8), (40, 16, 16, 130), (2, 1000, 3), (300, 7)])
@pytest.mark.parametrize("together", [True, False])
def test_normalization_of_maps_of_several_parts(shape, together):
    check_normalization(shape, together, 2.0, 0)


def check_normalization(shape, together, mean, seed):
    (x, of_x), (upstream, g) = noise(shape, seed, mean), noise(shape, seed + 1)
    rng, epsilon = np.random.default_rng(seed), 1e-3
    rows = (1 if together else shape[0], shape[-1])
    scale, offset = (tf.constant(rng.normal(1, 0.5, rows), tf.float32) for _ in range(2))
    with tf.GradientTape() as tape:
        tape.watch([x, scale, offset])
        y, got_mean, got_variance = native_operations.lendable()["normalize"](x, scale, offset, epsilon)
    slopes = tape.gradient(y, [x, scale, offset], upstream)

    axes, spread = tuple(range(len(shape) - 1)), (rows[0], *[1] * (len(shape) - 2), shape[-1])
    s, o = exact(scale).reshape(spread), exact(offset).reshape(spread)
    m, variance = of_x.mean(axes), of_x.var(axes)
    inverse = 1 / np.sqrt(variance + epsilon)
    n = (of_x - m) * inverse
    np.testing.assert_allclose(exact(got_mean), m, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(exact(got_variance), variance, rtol=1e-4, atol=1e-4 * epsilon)
    want = n * s + o
    # Two roundings of float32 on x * factor besides the one of the result.
    assert np.all(np.abs(exact(y) - want) <= ROUNDING * np.abs(want) + 1e-5 * (1 + np.abs(of_x * inverse * s)))
    slope = inverse * (s * g - (s * g).mean(axes) - n * (s * g * n).mean(axes))
    allowed = ROUNDING * np.abs(slope) + 1e-5 * (inverse * np.abs(s) * (1 + np.abs(n)) * (1 + np.abs(g) + abs(mean)))
    assert np.all(np.abs(exact(slopes[0]) - slope) <= allowed)
    over = axes if together else axes[1:]
    for got, each in zip(slopes[1:], (g * n, g)):
        np.testing.assert_allclose(exact(got), each.sum(over).reshape(rows), rtol=1e-4, atol=1e-4 * (1 + rms(n)))


@needs_compiler
def test_normalization_leaves_a_strange_map_to_the_layer_and_refuses_rows_that_do_not_fit(lent):
    rows = tf.ones((1, 3))
    assert lent["normalize"](tf.ones((2, 4, 4, 3)), rows, rows, 1e-3) is None
    for x, scale in ((tf.ones((2, 4, 3)), tf.ones((1, 4))), (tf.ones((2, 4, 3)), tf.ones((3, 3))),
                     (tf.ones((0, 4, 3)), rows), (tf.ones((3,)), rows)):  # fmt: skip
        with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
            lent["normalize"](tf.cast(x, tf.bfloat16), scale, scale, 1e-3)


@needs_compiler
def test_relu_is_tensorflows_bit_for_bit(lent):
    values = [0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, 2e-38, -2e-38, 3e38]  # what is below TensorFlow takes for zero
    x = tf.constant(np.tile(values, 5000)[:40_001], tf.bfloat16)
    upstream, _ = noise(x.shape)
    results = []
    for relu in (lent["rectify"], tf.nn.relu):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = relu(x)
        results.append([tf.bitcast(part, tf.uint16).numpy() for part in (y, tape.gradient(y, x, upstream))])
    # Zeros have two signs, and TensorFlow keeps that of a negative one.
    unsigned = [[np.where(part == 0x8000, 0, part) for part in both] for both in results]
    (y, slope), (want, want_slope) = unsigned
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(slope, want_slope)
    nan = tf.bitcast(tf.constant([0x7FC0, 0xFFC0], tf.uint16), tf.bfloat16)
    assert np.isnan(exact(lent["rectify"](nan))).all()
    assert lent["rectify"](tf.ones((3,))) is None


@needs_compiler
@pytest.mark.parametrize("shape", [(1, 1), (3, 7, 5), (2, 128, 128, 3), (40, 6, 6, 66)])
def test_channels_are_summed_in_float32(shape, lent):
    x, of_x = noise(shape, mean=1.0)
    axes = tuple(range(len(shape) - 1))
    np.testing.assert_allclose(lent["sum_channels"](x), of_x.sum(axes), rtol=1e-5)
    with tf.GradientTape() as tape, lending(lent):
        bias = tf.zeros(shape[-1:], tf.bfloat16)
        tape.watch(bias)
        y = add_bias(x, bias)
        slope = tape.gradient(y, bias, x)
    np.testing.assert_allclose(exact(slope), of_x.sum(axes), rtol=ROUNDING)


@needs_compiler
@pytest.mark.parametrize("shape", [(1, 1), (3, 7, 5), (2, 128, 128, 3), (40, 6, 6, 66)])
def test_a_row_is_added_to_all_positions(shape, lent):
    (x, of_x), (row, of_row) = noise(shape), noise(shape[-1:], 1)
    found = lent["add_channels"](x, row)
    assert np.all(np.abs(exact(found) - (of_x + of_row)) <= ROUNDING * np.abs(of_x + of_row))


@needs_compiler
@pytest.mark.parametrize("shape", [(3,), (2, 5, 7, 3), (2, 96, 96, 3)])
def test_scaled_sum_has_value_and_two_derivatives(shape, lent):
    (x, of_x), (y, of_y), (upstream, g) = (noise(shape, seed) for seed in range(3))
    factor = tf.constant(0.3)
    with tf.GradientTape(persistent=True) as outer:
        outer.watch([x, y, factor])
        with tf.GradientTape() as inner:
            inner.watch([x, y, factor])
            sum_ = lent["add_scaled"](x, y, factor)
            loss = tf.reduce_sum(tf.cast(sum_, tf.float32) ** 2)
        slopes = inner.gradient(loss, [x, y, factor])
        norm = tf.add_n([tf.reduce_sum(tf.cast(slope, tf.float32) ** 2) for slope in slopes])
    f = np.float64(np.float32(0.3))
    value = of_x + f * of_y
    assert relative_error(sum_, value) < ROUNDING
    want = 2 * value, 2 * f * value, 2 * (value * of_y).sum()
    for slope, exact_slope in zip(slopes, want):
        assert relative_error(slope, exact_slope) < 3 * ROUNDING
    # Of 4 (1 + f^2) |v|^2 + 4 <v, y>^2, for x and the factor.
    along = (value * of_y).sum()
    of_norm = 8 * (1 + f**2) * value + 8 * along * of_y
    assert relative_error(outer.gradient(norm, x), of_norm) < 0.03
    of_factor = 8 * f * (value**2).sum() + 8 * (1 + f**2) * along + 8 * along * (of_y**2).sum()
    assert relative_error(outer.gradient(norm, factor), of_factor) < 0.03
    with tf.GradientTape() as tape:
        tape.watch([x, y])
        plain = lent["add_scaled"](x, y, 1.0)
    assert relative_error(plain, of_x + of_y) < ROUNDING
    for slope in tape.gradient(plain, [x, y], upstream):
        np.testing.assert_array_equal(exact(slope), g)


@needs_compiler
@pytest.mark.parametrize("factor", [1.0, 0.25])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 2, 5, 7), (2, 40, 40, 33)])
def test_quads_are_repeated_and_summed(shape, factor, lent):
    batch, height, width, channels = shape
    (small, of_small), (large, of_large) = noise(shape), noise((batch, 2 * height, 2 * width, channels), 1)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([small, large])
        repeated, summed = lent["repeat_quads"](small, factor), lent["sum_quads"](large, factor)
    sums = factor * of_large.reshape(batch, height, 2, width, 2, channels).sum((2, 4))
    copies = factor * of_small.repeat(2, 1).repeat(2, 2)
    np.testing.assert_array_equal(exact(repeated), copies)  # by a power of two
    np.testing.assert_allclose(exact(summed), sums, rtol=ROUNDING, atol=1e-6)
    np.testing.assert_array_equal(exact(tape.gradient(summed, large, small)), copies)
    np.testing.assert_array_equal(exact(tape.gradient(repeated, small, large)), exact(summed))
    if shape[1] % 2:
        assert lent["sum_quads"](small, factor) is None


@needs_compiler
@pytest.mark.parametrize(("shape", "kernel"), [
    ((1, 1, 1, 1), (3, 3)), ((2, 4, 5, 3), (3, 3)), ((3, 8, 8, 40), (3, 3)), ((2, 4, 4, 2), (1, 5)),
])  # fmt: skip
def test_patches_are_what_a_convolution_meets(shape, kernel, lent):
    x, of_x = noise(shape)
    batch, height, width, channels = shape
    with tf.GradientTape() as tape:
        tape.watch(x)
        found = lent["patches"](x, *kernel)
    padded = np.pad(of_x, ((0, 0), (kernel[0] // 2,) * 2, (kernel[1] // 2,) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, (1, 2))  # (B, H, W, C, kh, kw)
    want = np.moveaxis(windows, 3, -1).reshape(batch, height, width, -1)
    np.testing.assert_array_equal(exact(found), want)
    upstream, g = noise(found.shape, 1)
    slope = np.zeros_like(padded)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            part = g.reshape(batch, height, width, *kernel, channels)[:, :, :, i, j]
            slope[:, i : i + height, j : j + width] += part
    top, left = kernel[0] // 2, kernel[1] // 2
    want_slope = slope[:, top : top + height, left : left + width]
    np.testing.assert_allclose(exact(tape.gradient(found, x, upstream)), want_slope, atol=0.15)  # nine are added


@needs_compiler
@settings(deadline=None, max_examples=30)
@given(rows=st.integers(1, 200), columns=st.integers(1, 200), iterations=st.integers(1, 3), seed=st.integers(0, 99))
def test_singular_vectors_are_those_of_the_power_iteration(rows, columns, iterations, seed):
    check_singular_vectors(rows, columns, iterations, seed)


@needs_compiler
def test_singular_vectors_of_a_matrix_of_several_parts():
    check_singular_vectors(4608, 512, 1, 0)


def check_singular_vectors(rows, columns, iterations, seed):
    rng = np.random.default_rng(seed)
    matrix, u = rng.normal(size=(rows, columns)).astype("float32"), rng.normal(size=columns).astype("float32")
    found = native_operations.lendable()["singular_vectors"](tf.constant(matrix), tf.constant(u), iterations, 1e-12)
    matrix, u = matrix.astype(np.float64), u.astype(np.float64)
    for _ in range(iterations):
        v = matrix @ u / np.linalg.norm(matrix @ u)
        u = v @ matrix / np.linalg.norm(v @ matrix)
    for got, want in zip(found, (u, v, u @ (v @ matrix)), strict=True):
        assert relative_error(got, want) < 2e-5


@needs_compiler
def test_the_same_input_gives_the_same_bits(lent):
    (x, _), (upstream, _) = noise((5, 64, 64, 48)), noise((5, 64, 64, 48), 1)
    kernel, u, v = (tf.constant(np.random.default_rng(0).normal(size=shape), tf.float32) for shape in
                    ((2304, 256), 256, 2304))  # fmt: skip
    rows, narrow = tf.ones((5, 48)), tf.cast(kernel, tf.bfloat16)

    def everything():
        with tf.GradientTape() as tape:
            tape.watch([x, rows, kernel, u])
            y, *moments = lent["normalize"](x, rows, rows, 1e-3)
            total = lent["add_scaled"](lent["rectify"](y), x, tf.constant(0.5) * u[0])
            scaled = lent["scale_kernel"](kernel, tf.constant(0.5), tf.constant(0.25), v, u)
            loss = [tf.cast(total * upstream, tf.float32), tf.cast(scaled * narrow, tf.float32)]
        slopes = tape.gradient(loss, [x, rows, kernel, u])
        return [y, *moments, total, scaled, lent["sum_channels"](x), *lent["singular_vectors"](kernel, u, 2, 1e-12),
                *map(tf.convert_to_tensor, slopes)]  # fmt: skip

    first = everything()
    for _ in range(3):
        for one, other in zip(first, everything(), strict=True):
            np.testing.assert_array_equal(exact(one), exact(other))


@needs_compiler
def test_a_kernel_of_zeros_keeps_u(lent):
    u, v, sigma = lent["singular_vectors"](tf.zeros((6, 3)), tf.constant([1.0, 2.0, 3.0]), 2, 1e-12)
    np.testing.assert_array_equal(u, [1, 2, 3])
    np.testing.assert_array_equal(v, np.zeros(6))
    assert float(sigma) == 0


@needs_compiler
@pytest.mark.parametrize("shape", [(1, 1), (27, 5), (4608, 130)])
def test_kernels_gradient_is_that_of_kernel_over_sigma(shape, lent):
    rng = np.random.default_rng(0)
    kernel, u, v = rng.normal(size=shape), rng.normal(size=shape[1]), rng.normal(size=shape[0])
    kernel, u, v = (tf.constant(x, tf.float32) for x in (kernel, u, v))
    upstream, g = noise(shape)
    w, u64, v64 = exact(kernel), exact(u), exact(v)
    with tf.GradientTape() as tape:
        w64 = tf.constant(w)
        tape.watch(w64)
        sigma = tf.reduce_sum(v64[:, None] * w64 * u64)
        scaled64 = w64 / sigma
    want = tape.gradient(scaled64, w64, g)
    factor = tf.cast(1 / sigma, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        scaled = lent["scale_kernel"](kernel, factor, factor * factor, v, u)
    assert relative_error(scaled, scaled64) < ROUNDING
    slope = tape.gradient(scaled, kernel, upstream)
    # Of the two terms, which may nearly cancel.
    assert np.abs(exact(slope) - want).max() < 1e-4 * (np.abs(want).max() + np.abs(g / exact(sigma)).max())


@needs_compiler
def test_networks_gradients_are_no_further_from_float64_than_without(lent):
    arguments = dict(image_size=32, channels=16, num_classes=3, attention_sizes=(16,))
    rng = np.random.default_rng(0)
    label = tf.constant(rng.integers(0, 3, 16), tf.int32)
    for build, inputs in ((build_generator, rng.normal(size=(16, 128))),
                          (build_discriminator, rng.normal(size=(16, 32, 32, 3)))):  # fmt: skip
        exact_one, mixed = (build(**arguments, dtype=dtype) for dtype in ("float64", "mixed_bfloat16"))
        exact_one.get_layer("attention_16").gamma.assign(0.5)
        start = [weight.numpy() for weight in exact_one.weights]
        inputs = tf.constant(inputs)
        slope = rng.normal(size=exact_one([inputs, label]).shape)

        def gradients(network, operations):
            for weight, value in zip(network.weights, start, strict=True):
                weight.assign(value)
            with tf.GradientTape() as tape, lending(operations):
                outputs = network([tf.cast(inputs, network.inputs[0].dtype), label], training=True)
                loss = tf.reduce_sum(tf.cast(outputs, tf.float64) * slope)
                found = tape.gradient(loss, [weight.value for weight in network.trainable_variables])
            return [exact(each) for each in found]

        want = gradients(exact_one, None)
        scale = np.sqrt(sum(np.square(each).sum() for each in want))
        own, native = (
            np.sqrt(sum(np.square(a - b).sum() for a, b in zip(gradients(mixed, each), want, strict=True))) / scale
            for each in (operations_for(tf.distribute.get_strategy()), lent)
        )
        assert native < 1.1 * own and native < 0.3, (build.__name__, native, own)


@needs_compiler
def test_a_step_is_made_of_them_and_near_that_without():
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
        "Normalize", "NormalizeGrad", "Relu", "ReluGrad", "AddChannels", "SumChannels", "AddScaled", "AddScaledGrad",
        "SumQuads", "RepeatQuads", "Patches", "SingularVectors", "ScaleKernel", "ScaleKernelGrad",
    )}  # fmt: skip
    for one, other in zip(found[0], found[1]):
        assert relative_error(np.atleast_1d(other), np.atleast_1d(one)) < 0.03

def test_not_with_xla_nor_on_several_replicas():
    with pytest.raises(ValueError, match="XLA knows no `native_operations`"):
        make_gan(compile_arguments=dict(native_operations=True, jit_compile=True))
    assert operations_for(type("Strategy", (), {"num_replicas_in_sync": 2}), native=True) is None
