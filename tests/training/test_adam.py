"""FusedAdam against NumPy float64 and Keras' own Adam."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from sagan_tf.training.adam import FusedAdam
from sagan_tf.training.schedules import WarmupAndDecay

SHAPES, STEPS = [(3, 4), (5,), ()], 6
PAPER = dict(beta_1=0.0, beta_2=0.9, epsilon=1e-8)


def draws(seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in SHAPES]


def run(optimizer, dtype="float32"):
    """Weights and slots after some steps on random gradients."""
    weights = [keras.Variable(value, dtype=dtype) for value in draws(0)]
    optimizer.build(weights)

    @tf.function
    def step(gradients):
        optimizer.apply(gradients, weights)

    for i in range(STEPS):
        step([tf.constant(value, dtype) for value in draws(i + 1)])
    return [np.array(one) for one in (*weights, *optimizer._momentums, *optimizer._velocities)]


def oracle(rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    """Kingma and Ba 2015, algorithm 1 with epsilon hat; rate: function of the step, from 0."""
    weights = draws(0)
    m, v = ([np.zeros(shape) for shape in SHAPES] for _ in range(2))
    for i in range(STEPS):
        for k, gradient in enumerate(draws(i + 1)):
            m[k] = beta_1 * m[k] + (1 - beta_1) * gradient
            v[k] = beta_2 * v[k] + (1 - beta_2) * gradient**2
            alpha = rate(i) * np.sqrt(1 - beta_2 ** (i + 1)) / (1 - beta_1 ** (i + 1))
            weights[k] = weights[k] - alpha * m[k] / (np.sqrt(v[k]) + epsilon)
    return [*weights, *m, *v]


@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-6), ("float64", 1e-6)])  # betas are float32 numbers
@pytest.mark.parametrize("options", [{}, PAPER, dict(beta_1=0.5, beta_2=0.9, epsilon=1e-3)])
def test_fused_adam_updates_and_slots_match_numpy(options, dtype, tolerance):
    for got, want in zip(run(FusedAdam(0.01, **options), dtype), oracle(lambda i: 0.01, **options), strict=True):
        np.testing.assert_allclose(got, want, atol=tolerance)


def test_fused_adam_follows_the_schedule():
    schedule = WarmupAndDecay(0.01, "linear", 2, 3, 6, 0.001)
    rates = [float(schedule(i)) for i in range(STEPS)]
    for got, want in zip(run(FusedAdam(schedule, **PAPER)), oracle(lambda i: rates[i], **PAPER), strict=True):
        np.testing.assert_allclose(got, want, atol=2e-6)


@pytest.mark.parametrize("options", [PAPER, dict(clipnorm=0.5, weight_decay=0.1), dict(amsgrad=True)])
def test_fused_adam_matches_keras(options):
    for got, want in zip(run(FusedAdam(0.01, **options)), run(keras.optimizers.Adam(0.01, **options)), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_fused_adam_restores_a_checkpoint_of_keras_adam(tmp_path):
    old, new = keras.optimizers.Adam(0.01, **PAPER), FusedAdam(0.5, **PAPER)
    run(old)
    new.build([keras.Variable(value, dtype="float32") for value in draws(0)])
    path = tf.train.Checkpoint(optimizer=old).write(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(optimizer=new).read(path).assert_consumed()
    for got, want in zip(new.variables, old.variables, strict=True):
        np.testing.assert_array_equal(got, want)
