"""SelfAttention that takes its queries in blocks, against the whole score matrix and NumPy float64."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from layers.attention_oracle import FORMS, built, oracle
from layers.spectral_oracle import relative_error

from sagan_tf.layers import SelfAttention
from sagan_tf.layers.self_attention import _mix

ROOT = Path(__file__).resolve().parents[2]


def twins(size, dtype="float32", **arguments):
    """Two layers of the same weights, the first with blocks, and inputs of 24 positions."""
    whole, x = built(dtype=dtype, query_block_size=24, **arguments)
    blocks, _ = built(dtype=dtype, query_block_size=size, **arguments)
    return blocks, whole, tf.constant(x, dtype.removeprefix("mixed_"))


def derivatives(layer, x, training=False):
    """Output, and gradients of inputs and weights in one vector, float64."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = tf.cast(layer(x, training=training), "float64")
        loss = tf.reduce_sum(output**3)
    gradients = tape.gradient(loss, [x, *(weight.value for weight in layer.trainable_weights)])
    # One vector: the gradient of the key's bias is zero, since softmax ignores it, so it has no relative error.
    return output.numpy(), np.concatenate([np.array(tf.cast(one, "float64")).ravel() for one in gradients])


# bfloat16 has 8 significant bits; every block rounds its sums of the gradients of key and value.
TOLERANCES = {"float32": 5e-6, "float64": 1e-13, "mixed_bfloat16": 0.03}


@pytest.mark.parametrize(
    "form, size, dtype",
    [(form, 5, dtype) for form in FORMS for dtype in TOLERANCES] + [("authors", n, "float64") for n in (1, 8, 23)],
)
def test_self_attention_in_blocks_matches_whole_matrix_with_gradients(form, size, dtype):
    blocks, whole, x = twins(size, dtype, **FORMS[form])
    for got, want in zip(derivatives(blocks, x), derivatives(whole, x), strict=True):
        assert relative_error(got, want) < TOLERANCES[dtype]


@pytest.mark.parametrize("form", FORMS)
def test_self_attention_in_blocks_output_matches_numpy(form):
    layer, x = built(dtype="float64", query_block_size=7, **FORMS[form])
    assert relative_error(layer(x), oracle(layer, x)[0]) < 1e-12


def test_self_attention_in_blocks_gradient_matches_finite_differences():
    layer, x = built(dtype="float64", query_block_size=7, spectral_normalization=False)
    rng, step = np.random.default_rng(1), 1e-6
    direction = rng.normal(size=x.shape)
    losses = [np.sum(oracle(layer, x + sign * step * direction)[0] ** 3) for sign in (1, -1)]
    gradient = derivatives(layer, tf.constant(x, "float64"))[1][: x.size].reshape(x.shape)
    # The losses are near 1e3 and the slope too: rounding over the step is near 1e-7.
    assert np.sum(gradient * direction) == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_self_attention_in_blocks_matches_whole_matrix_when_compiled(jit_compile):
    blocks, whole, x = twins(5)

    @tf.function(input_signature=[tf.TensorSpec((None, 4, 6, 16))], jit_compile=jit_compile)
    def compiled(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(blocks(x, training=True) ** 3)
        return tape.gradient(loss, [x, *(weight.value for weight in blocks.trainable_weights)])

    got = np.concatenate([np.array(one).ravel() for one in compiled(x)])
    assert relative_error(got, derivatives(whole, x, training=True)[1]) < 5e-6
    for got, want in zip(blocks.non_trainable_weights, whole.non_trainable_weights, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.slow
def test_self_attention_in_blocks_matches_whole_matrix_to_second_order():
    """The R1 penalty is a gradient that is differentiated; in a graph, as in training."""
    blocks, whole, x = twins(5, "float64")

    @tf.function
    def of_square(layer):
        weights = [weight.value for weight in layer.trainable_weights]
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(layer(x) ** 3)
            square = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        return outer.gradient(square, weights)

    for got, want in zip(of_square(blocks), of_square(whole), strict=True):
        assert relative_error(got, want) < 1e-12


def test_self_attention_in_blocks_returns_whole_scores():
    blocks, whole, x = twins(5)
    for got, want in zip(blocks(x, return_attention_scores=True), whole(x, return_attention_scores=True)):
        np.testing.assert_array_equal(got, want)


def test_self_attention_in_blocks_loads_a_config_without_the_option():
    config = SelfAttention(query_block_size=3).get_config()
    assert config.pop("query_block_size") == 3
    assert SelfAttention.from_config(config).query_block_size is None


def test_self_attention_in_blocks_keeps_block_size_when_saved(tmp_path):
    inputs = keras.Input((4, 6, 16))
    model = keras.Model(inputs, SelfAttention(query_block_size=5)(inputs))
    model.layers[-1].gamma.assign(0.7)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[-1].query_block_size == 5
    x = np.random.default_rng(0).normal(size=(3, 4, 6, 16)).astype("float32")
    np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.slow
def test_self_attention_in_blocks_needs_less_memory_than_half_its_scores():
    """Peak memory of training steps, as the benchmark measures it, in a process of its own."""
    one = {"path": "auto", "size": 96, "pool_size": 1}
    command = [sys.executable, "benchmarks/attention_memory.py", "--passes", "1", "--worker", json.dumps(one)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 0 < json.loads(done.stdout)["peak_mib"] < 96**4 * 4 / 2**20 / 2


@pytest.mark.parametrize("keep_scores", [True, False])
def test_self_attention_in_blocks_bfloat16_gradients_survive_large_mean(keep_scores):
    rng = np.random.default_rng(0)
    query, key, value, upstream = (
        tf.cast(rng.normal(size=size), tf.bfloat16) for size in ((2, 64, 8), (2, 16, 8), (2, 16, 32), (2, 64, 32))
    )
    # Attention depends on differences between a row's gradients; their mean is twenty times as large here.
    value, upstream = 4 + value, 1 + upstream

    def gradients(dtype):
        inputs = [tf.cast(x, "float64" if dtype == "float64" else "float32") for x in (query, key)]
        inputs.append(tf.cast(value, dtype))
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            mixed = _mix(dtype, keep_scores)(*inputs)
        return tape.gradient(mixed, inputs, tf.cast(upstream, dtype))

    for found, want in zip(gradients("bfloat16"), gradients("float64"), strict=True):
        assert relative_error(found, want) < 0.06
