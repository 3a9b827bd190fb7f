"""Replicas and workers train the same weights as one device, each in new processes: TensorFlow sets devices up once."""

import os
import subprocess
import sys

import numpy as np
import pytest
from training.test_workers import TESTS, end_of, start_workers

SCRIPT = str(TESTS / "training" / "replica_run.py")


def train(replicas, path, options):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    command = [sys.executable, SCRIPT, str(replicas), str(path), options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(np.load(path))


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """A function that returns the weights and losses of one device, trained once for each of the options."""
    found, folder = {}, tmp_path_factory.mktemp("one")

    def one(options):
        if options not in found:
            found[options] = train(1, folder / f"{options}.npz", options)
        return found[options]

    return one


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
def test_replicas_train_same_weights_as_one_device(one_device, tmp_path, options, replicas):
    assert_same_training(one_device(options), train(replicas, tmp_path / "many.npz", options))


@pytest.mark.slow
@pytest.mark.replicas
@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.stress)])
def test_workers_train_same_weights_as_one_device(one_device, tmp_path, count):
    processes = start_workers(count, [sys.executable, SCRIPT, "0", str(tmp_path / "{index}.npz"), "all"])
    for status, _, err in end_of(processes, 900):
        assert status == 0, err[-3000:]
    first, *others = (dict(np.load(tmp_path / f"{index}.npz")) for index in range(count))
    assert len(others) == count - 1
    assert all((first[name] == other[name]).all() for other in others for name in first)
    assert_same_training(one_device("all"), first)
