"""One, two and four replicas train the same weights."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sagan_tf.errors import UserError
from sagan_tf.training.distribution import make_strategy

TESTS = Path(__file__).resolve().parents[1]


def train(replicas, folder, options):
    """Runs in a new process, since TensorFlow configures its devices only once."""
    path = folder / f"{replicas}.npz"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    command = [sys.executable, str(TESTS / "training" / "replica_run.py"), str(replicas), str(path), options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(path) as file:
        return [file[name] for name in file.files]


@pytest.mark.slow
@pytest.mark.replicas
@pytest.mark.parametrize(
    "options, counts",
    [("plain", (2,)), *(pytest.param(options, (4,), marks=pytest.mark.stress) for options in ("plain", "all"))],
)
def test_replicas_train_same_weights_as_one_device(tmp_path, options, counts):
    one = train(1, tmp_path, options)
    for replicas in counts:
        many = train(replicas, tmp_path, options)
        assert len(many) == len(one) > 100
        # Sums over the batch are split: float32 rounding. Local batch statistics or wrong scaling give errors of 1e-2.
        assert max(np.abs(a - b).max() for a, b in zip(one, many)) < 1e-5


def test_make_strategy_returns_default_for_one_device():
    assert make_strategy("single").num_replicas_in_sync == 1
    assert make_strategy("auto").num_replicas_in_sync == 1


def test_make_strategy_rejects_replicas_after_tensorflow_has_started():
    import tensorflow as tf

    tf.constant(0)
    with pytest.raises(UserError, match="new process"):
        make_strategy("mirrored", 3)


def test_make_strategy_rejects_a_missing_tpu():
    with pytest.raises(UserError, match="finds no TPU on this machine"):
        make_strategy("tpu")
