"""Replicas and workers train the same weights as one device, in new processes: TensorFlow sets devices up once."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from training.float16 import make_images
from training.replica_run import far_map, main, make_local
from training.test_workers import TESTS, end_of, start_workers

from sagan_tf.training.randomness import StepRandomness
from sagan_tf.training.step import discriminator_loss, generator_loss

SCRIPT = str(TESTS / "training" / "replica_run.py")


def train(replicas, path, options):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    command = [sys.executable, SCRIPT, str(replicas), str(path), options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def folder_of(shared_folder):
    """A function that returns what a number of replicas wrote, trained once for each of the options."""

    def trained(replicas, options):
        run = main if replicas == 1 else train
        return shared_folder(f"{options}_{replicas}", lambda folder: run(replicas, folder / "weights.npz", options))

    return trained


@pytest.fixture(scope="module")
def trained(folder_of):
    """A function that returns the weights and losses."""
    return lambda *arguments: dict(np.load(folder_of(*arguments) / "weights.npz"))


@pytest.fixture(scope="module")
def parts_of_two(folder_of):
    """What two replicas do besides training."""
    return dict(np.load(folder_of(2, "plain") / "weights.npz.parts.npz"))


def assert_same_training(one, many):
    assert many.keys() == one.keys() and len(one) > 40
    # Sums over the batch are split: float32 rounding. Local batch statistics or wrong scaling give errors of 1e-2.
    # Losses of images are farther apart than the weights that they come from.
    np.testing.assert_allclose(many["results"], one["results"], rtol=1e-4)
    assert max(np.abs(one[name] - many[name]).max() for name in many if name != "results") < 1e-5
    # In float16, the discriminator skipped the second of four steps, which overflowed on the last replica only.
    np.testing.assert_array_equal(many["scaling"], [[2.0**14, 2, 1], [2.0**15, 4, 0]])


@pytest.mark.slow
@pytest.mark.replicas
@pytest.mark.parametrize(
    "options, replicas",
    [("plain", 2), *(pytest.param(options, 4, marks=pytest.mark.stress) for options in ("plain", "all"))],
)
def test_replicas_train_same_weights_as_one_device(trained, options, replicas):
    assert_same_training(trained(1, options), trained(replicas, options))


class Rows(StepRandomness):
    """The random numbers of one of several replicas, without a strategy."""

    def __init__(self, step, replica, replicas):
        super().__init__(0, tf.constant(step))
        self._all_rows = lambda rows: rows * replicas
        self._own_rows = lambda draw, rows: draw[replica * rows :][:rows]


def local_weights(path, jit_compile=False):
    return list(np.load(f"{path}.local_{jit_compile}.npz").values())


def assert_parts(weights, replicas):
    wanted = train_parts(replicas)
    assert len(wanted) == 12
    for a, b in zip(weights, wanted):
        np.testing.assert_allclose(a, b, atol=1e-6)


@functools.cache
def train_parts(parts):
    """Weights after two steps by the mean gradient of the parts of a batch, each computed alone; no strategy."""
    gan = make_local(run_eagerly=True)
    networks = gan.generator, gan.discriminator
    updates = ("discriminator", discriminator_loss, 0.04), ("generator", generator_loss, 0.01)
    for step, batch in enumerate(make_images(2)):
        for name, loss_of, rate in updates:
            before, after = [one.get_weights() for one in networks], []
            variables = getattr(gan, name).trainable_variables
            for replica, image in enumerate(tf.split(batch, parts)):
                for one, weights in zip(networks, before):
                    one.set_weights(weights)
                with tf.GradientTape() as tape:
                    loss, _ = loss_of(gan, image, None, Rows(step, replica, parts), f"{name}/0")
                for variable, gradient in zip(variables, tape.gradient(loss, variables)):
                    variable.assign_sub(rate * gradient)
                after.append([weight for one in networks for weight in one.get_weights()])
            # With SGD the mean of the weights is the weight of the mean gradient.
            means = [np.mean(copies, axis=0) for copies in zip(*after)]
            gan.generator.set_weights(means[: len(before[0])])
            gan.discriminator.set_weights(means[len(before[0]) :])
    return means


@pytest.mark.slow
@pytest.mark.replicas
@pytest.mark.parametrize("replicas", [2, pytest.param(4, marks=pytest.mark.stress)])
def test_local_statistics_are_those_of_each_replica_alone_also_when_compiled(folder_of, replicas):
    path = folder_of(replicas, "plain") / "weights.npz"
    plain, compiled = (local_weights(path, jit) for jit in (False, True))
    for a, b in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert_parts(plain, replicas)


@pytest.mark.slow
@pytest.mark.replicas
def test_fused_adam_replicas_apply_the_sum_of_their_gradients(parts_of_two):
    want, m, v, gradient = np.ones(3), np.zeros(3), np.zeros(3), np.array([1.0, 3.0, 5.0])
    for t in (1, 2, 3):
        m, v = 0.5 * m + 0.5 * gradient, 0.9 * v + 0.1 * gradient**2
        want -= 0.1 * np.sqrt(1 - 0.9**t) / (1 - 0.5**t) * m / (np.sqrt(v) + 1e-7)
    np.testing.assert_allclose(parts_of_two["adam"], [want, want], atol=1e-6)


@pytest.mark.slow
@pytest.mark.replicas
def test_batch_normalization_over_replicas_is_exact_when_mean_is_far(parts_of_two):
    exact = far_map().astype("float64")
    want = (exact - exact.mean((0, 1, 2))) / np.sqrt(exact.var((0, 1, 2)) + 1e-5)
    assert np.abs(parts_of_two["normalized"] - want).max() < 2e-3  # as Keras' layer on one device


@pytest.mark.slow
@pytest.mark.replicas
def test_training_refuses_parts_of_different_sizes(parts_of_two):
    message = "The replicas must have equally many images of a batch. Leave out a smaller last batch by"
    assert message in str(parts_of_two["unequal"])


@pytest.mark.slow
@pytest.mark.replicas
def test_batches_copied_to_the_device_ahead_of_a_step_are_the_same_in_the_same_order(parts_of_two):
    want = np.arange(20).reshape(5, 1, 4)
    np.testing.assert_array_equal(parts_of_two["read"], np.concatenate([want, want], axis=1))


@pytest.mark.slow
@pytest.mark.replicas
@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.stress)])
def test_workers_train_same_weights_as_one_device(trained, tmp_path, count):
    processes = start_workers(count, [sys.executable, SCRIPT, "0", str(tmp_path / "{index}.npz"), "all"])
    for status, _, err in end_of(processes, 900):
        assert status == 0, err[-3000:]
    first, *others = (dict(np.load(tmp_path / f"{index}.npz")) for index in range(count))
    assert len(others) == count - 1
    assert all((first[name] == other[name]).all() for other in others for name in first)
    assert_same_training(trained(1, "all"), first)
    copies = [local_weights(tmp_path / f"{index}.npz") for index in range(count)]
    assert all((a == b).all() for one in copies for a, b in zip(one, copies[0], strict=True))
    assert_parts(copies[0], count)
