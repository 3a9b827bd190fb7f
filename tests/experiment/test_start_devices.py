"""Starting from weights gives the same first checkpoint on several replicas and with XLA, and the run trains on."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from small_runs import make_run
from tiny_runs import tiny_flags

from sagan_tf.runs.folder import Run

DEVICES = {
    "one": {},
    "two replicas": dict(hardware__replicas=2, hardware__distribution="mirrored"),
    "xla": dict(hardware__jit_compile=True),
}


def weights_at(run, step):
    """The variables of a checkpoint of a run without those of counters and random numbers."""
    checkpoint = tf.train.load_checkpoint(run.checkpoint_path(step))
    names = [n for n in checkpoint.get_variable_to_shape_map() if n.startswith(("generator/", "discriminator/"))]
    return {name: checkpoint.get_tensor(name) for name in names}


@pytest.mark.stress
@pytest.mark.replicas
def test_start_is_the_same_on_all_devices(tmp_path):
    source = make_run(tmp_path / "source")
    runs = {}
    for name, changes in DEVICES.items():
        flags = tiny_flags(
            tmp_path / name, 1, training__start_from=source.path, generator__channels=4, generator__latent_dim=12,
            discriminator__channels=4, generator__attention_sizes="[8, 16]", discriminator__attention_sizes="[8, 16]",
            attention__key_reduction=4, output__checkpoint_interval=1, **changes,
        )  # fmt: skip
        process = subprocess.run(
            [sys.executable, "-m", "sagan_tf.train", *flags], env={**os.environ}, capture_output=True, text=True
        )
        assert process.returncode == 0, process.stderr[-2000:]
        assert " new" not in process.stdout
        runs[name] = Run.open(tmp_path / name)
    first, trained = (weights_at(runs["one"], step) for step in (0, 1))
    assert len(first) > 50 and any((trained[key] != value).any() for key, value in first.items())
    for name in ("two replicas", "xla"):
        for key, value in weights_at(runs[name], 0).items():
            np.testing.assert_array_equal(value, first[key], err_msg=key)
        after = weights_at(runs[name], 1)
        assert all(np.isfinite(value).all() for value in after.values())
        assert any((after[key] != value).any() for key, value in first.items())
