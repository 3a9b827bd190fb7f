"""Contents and names of checkpoints."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_runs import make_run
from training.tiny import make_gan

from sagan_tf.errors import UserError
from sagan_tf.experiment.build import build_networks
from sagan_tf.experiment.checkpoints import make_checkpoint, restore, restore_latest
from sagan_tf.training import SAGAN


def keys_of(path):
    shapes = tf.train.load_checkpoint(path).get_variable_to_shape_map()
    keys = [name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE").replace(".S", "/") for name in shapes]
    return {key for key in keys if not key.startswith("_CHECKPOINTABLE")}


def test_checkpoint_names_every_variable_by_network_and_path(tmp_path):
    gan = make_gan()
    keys = keys_of(make_checkpoint(gan).save(str(tmp_path / "checkpoint")))
    for name in ("generator", "discriminator", "ema_generator"):
        assert {f"{name}/{variable.path}" for variable in getattr(gan, name).variables} <= keys
    count = sum(len(getattr(gan, name).variables) for name in ("generator", "discriminator", "ema_generator"))
    slots = [v for o in (gan.generator_optimizer, gan.discriminator_optimizer) for v in o.variables]
    # Also the step and TensorFlow's own counter.
    assert len(keys) == count + len([v for v in slots if v.name != "learning_rate"]) + 2
    assert not any("fused_adam" in key for key in keys)  # Keras numbers such names


def test_checkpoint_restores_all_state_when_other_layers_were_built(tmp_path):
    penalty = dict(lecam_weight=0.3, ada_target=0.6)  # have a state of their own
    gan = make_gan(compile_arguments=penalty)
    rng = np.random.default_rng(0)
    state = [v for v in gan.variables + gan.generator_optimizer.variables + gan.discriminator_optimizer.variables
             if v.name != "learning_rate" and "metric" not in v.path]  # fmt: skip
    for variable in state:
        variable.assign(rng.integers(0, 9, variable.shape))
    path = make_checkpoint(gan).save(str(tmp_path / "checkpoint"))
    keras.layers.Dense(3).build((None, 2))  # advances Keras' counters of names
    other = make_gan(compile_arguments=penalty)
    assert restore(other, path) is None
    restored = other.variables + other.generator_optimizer.variables + other.discriminator_optimizer.variables
    restored = [v for v in restored if v.name != "learning_rate" and "metric" not in v.path]
    for a, b in zip(state, restored, strict=True):
        np.testing.assert_array_equal(a, b)


def test_restore_names_checkpoint_of_old_format(tmp_path):
    run = make_run(tmp_path / "run", steps=())
    gan = SAGAN(*build_networks(run.config(), 4))
    gan.compile()
    tf.train.CheckpointManager(tf.train.Checkpoint(model=gan), str(run.checkpoints_path), max_to_keep=1).save(
        checkpoint_number=5
    )
    with pytest.raises(UserError, match="written by an early version of sagan_tf"):
        restore_latest(gan, run)


def test_restore_rejects_checkpoint_of_other_networks(tmp_path):
    gan = make_gan()
    path = make_checkpoint(gan).save(str(tmp_path / "checkpoint"))
    assert "of other networks" in restore(make_gan(num_classes=None), path)
