"""Random numbers of a step: those of a step that XLA compiles are TensorFlow's."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from sagan_tf.training.randomness import StepRandomness, compiled_normal, compiled_uniform


@settings(max_examples=30)
@given(rows=st.integers(0, 40), columns=st.integers(1, 130), seed=st.integers(-(2**63), 2**63 - 1))
def test_compiled_numbers_are_those_of_tensorflow(rows, columns, seed):
    seeds = tf.constant([seed, 5], tf.int64)
    uniform = tf.random.stateless_uniform((rows, columns), seeds, alg="philox")
    np.testing.assert_array_equal(compiled_uniform(rows, columns, seeds), uniform)
    normal = tf.random.stateless_normal((rows, columns), seeds, alg="philox")
    np.testing.assert_allclose(compiled_normal(rows, columns, seeds), normal, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("rows", [4, 7])
def test_step_draws_the_same_numbers_when_compiled(rows):
    def draw(compiled):
        randomness = StepRandomness(3, tf.constant(11), compiled)
        label = randomness.labels("c", rows, (0.2, 0.0, 0.8))
        return randomness.normal("a", rows, 3), randomness.uniform("b", rows, 5), label

    for ours, theirs in zip(tf.function(lambda: draw(True), jit_compile=True)(), draw(False)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=5e-6)
