"""Checkpoints of a run: written, restored, and passed over where they are damaged."""

import math
import os

import tensorflow as tf

from sagan_tf.errors import UserError


def restore(gan, run):
    """Restores the newest checkpoint of a run that can be read, if there is one.

    A damaged one, or one of other networks, is named, and the one before is taken.

    Args:
        gan: Compiled SAGAN; it gets the weights, optimiser slots and step of the checkpoint.
        run: `Run`.

    Raises:
        UserError: There are checkpoints, and none can be restored.
    """
    paths = run.checkpoints()
    # A constant rate is a variable and comes back with the rest; after a recovery it is another one.
    optimizers = gan.generator_optimizer, gan.discriminator_optimizer
    rates = [optimizer.get_config()["learning_rate"] for optimizer in optimizers]
    for path in paths:
        try:
            tf.train.Checkpoint(model=gan).restore(path).assert_consumed()
        except Exception as error:  # damaged bytes make the reader raise anything, an IndexError among others
            reason = " ".join(str(error).split())[:200]
            print(f"{path}: cannot be restored into these networks, the one before is tried: {reason}")
            continue
        for optimizer, rate in zip(optimizers, rates):
            if isinstance(rate, float):
                optimizer.learning_rate = rate
        print(f"Going on from step {int(gan.step.numpy())}: {path}")
        return
    if paths:
        raise UserError(
            f"{paths[0]}: neither it nor any checkpoint before it can be restored: {reason} Move them away to begin "
            "anew, or choose another folder with --run."
        )


def make_manager(gan, run, checkpoints_to_keep):
    """Makes what writes the checkpoints of a run from the step on that it stands at; takes back what is later.

    Args:
        gan: Compiled SAGAN.
        run: `Run`.
        checkpoints_to_keep: Newest checkpoints kept from now on.

    Returns:
        tf.train.CheckpointManager.

    Raises:
        UserError: The disk has no room for the checkpoints.
    """
    step, paths = int(gan.step.numpy()), run.checkpoints()
    state = gan.variables + gan.generator_optimizer.variables + gan.discriminator_optimizer.variables
    size = sum(4 * math.prod(v.shape) for v in state)  # bytes, float32
    run.check_space((checkpoints_to_keep + 1 - len(paths)) * size)
    run.metrics_log.truncate_after(step)
    run.remove_unfinished()
    kept = [path for path in reversed(paths) if int(path.rpartition("-")[2]) <= step]
    if kept:
        # TensorFlow's own list may be gone, older than the files, or name one that cannot be read. Without their times
        # it would keep the old ones for ever.
        times = [os.path.getmtime(f"{path}.index") for path in kept]
        tf.compat.v1.train.update_checkpoint_state(
            str(run.checkpoints_path), kept[-1], kept, all_model_checkpoint_timestamps=times
        )
    return tf.train.CheckpointManager(
        tf.train.Checkpoint(model=gan), str(run.checkpoints_path), max_to_keep=checkpoints_to_keep
    )
