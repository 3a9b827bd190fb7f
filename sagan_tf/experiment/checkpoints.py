"""Checkpoints of a run: what they hold, writing them, restoring the newest one that is whole."""

import math
import os
import shutil

import tensorflow as tf

from sagan_tf.errors import UserError, summarize
from sagan_tf.generation.saving import save_generator
from sagan_tf.training.callbacks import StepCallback
from sagan_tf.training.loss_scale import loss_scaling_optimizers

_LOSS_SCALE = "_loss_scale"  # end of a group's name


def state_by_path(gan, optimizers=True, loss_scales=True):
    """Variables that a checkpoint holds: dict, group such as `ema_generator` -> dict, path -> Keras variable.

    Learning rates are not among them: they follow from the config and from the recoveries of the run. Loss scales have
    groups of their own, because a run may be resumed in another precision.
    """
    groups = {name: _by_path(getattr(gan, name).variables) for name in ("generator", "discriminator")}
    if gan.ema_generator is not gan.generator:
        groups["ema_generator"] = _by_path(gan.ema_generator.variables)
    for name in ("generator_optimizer", "discriminator_optimizer") if optimizers else ():
        optimizer = getattr(gan, name)
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        slots = [v for v in optimizer.variables if v.name != "learning_rate"]
        # Without the optimizer's own name, which Keras numbers.
        groups[name] = _by_path(slots, lambda path: path.partition("/")[2])
    if optimizers and gan.lecam_weight:
        groups["lecam"] = {"means": gan.lecam_means}
    if optimizers and gan.ada_target:
        groups["ada"] = {"p": gan.ada_p, "signs": gan.ada_signs}
    for name, optimizer in loss_scaling_optimizers(gan).items() if optimizers and loss_scales else ():
        groups[name + _LOSS_SCALE] = {variable.name: variable for variable in optimizer.scale_variables}
    return groups


def _by_path(variables, key=lambda path: path):
    named = {key(variable.path): variable for variable in variables}
    if len(named) < len(variables):
        raise ValueError("Two variables have the same path; give the layers of a network different names.")
    return named


def make_checkpoint(gan, **options):
    """Makes a tf.train.Checkpoint of a SAGAN, with the variables of `state_by_path` and the step."""
    return tf.train.Checkpoint(step=gan.step, **state_by_path(gan, **options))


def restore_latest(gan, run):
    """Restores the newest readable checkpoint of a run, if there is one; raises UserError if none is readable.

    A damaged checkpoint is reported, and the one before it is used.
    """
    paths, reason = run.checkpoints(), None
    for path in paths:
        reason = restore(gan, path)
        if reason is None:
            print(f"Resuming from step {int(gan.step.numpy())}: {path}")
            return
        print(f"{path}: cannot be restored; trying the one before it: {reason}")
    if paths:
        raise UserError(
            f"{paths[0]}: neither it nor any checkpoint before it can be restored: {reason} Move the checkpoints away "
            "to start again, or choose another folder with --run."
        )


def restore(gan, path, optimizers=True):
    """Restores a SAGAN from a checkpoint that may be damaged.

    Args:
        gan: `SAGAN`, compiled if `optimizers`.
        path: str, see `Run.checkpoint_path`.
        optimizers: bool. Restore the state of training too; otherwise the networks alone.

    Returns:
        None on success; otherwise str, why it cannot be restored. Some variables may be set then.
    """
    try:
        shapes = tf.train.load_checkpoint(path).get_variable_to_shape_map()
        options = dict(optimizers=optimizers, loss_scales=any(f"{_LOSS_SCALE}/" in key for key in shapes))
        problem = _mismatch(shapes, state_by_path(gan, **options))
        if problem is None:
            make_checkpoint(gan, **options).restore(path).expect_partial().assert_existing_objects_matched()
    except Exception as error:  # damaged bytes make the reader raise anything, an IndexError among others
        return summarize(error)
    return problem


def _mismatch(shapes, groups):
    """Says how the variables of a file differ from those of `state_by_path`; None if they do not."""
    if any(key.startswith("model/") for key in shapes):
        return "it was written by an early version of sagan_tf, which numbered variables instead of naming them."
    wanted = {_key(group, path): list(v.shape) for group, named in groups.items() for path, v in named.items()}
    differing = [key for key, shape in wanted.items() if shapes.get(key) != shape]
    unknown = [key for key in shapes if key.partition("/")[0] in groups and key not in wanted]
    if not differing and not unknown:
        return None
    example = (differing + unknown)[0].partition("/.ATTRIBUTES")[0].replace(".S", "/")
    return f"it is of other networks: {len(differing) + len(unknown)} variables differ, such as {example}."


def _key(group, path):
    """Name of a variable in a checkpoint file of TensorFlow."""
    return f"{group}/{path.replace('.', '..').replace('/', '.S')}/.ATTRIBUTES/VARIABLE_VALUE"


def make_manager(gan, run, checkpoints_to_keep):
    """Makes the writer of a run's checkpoints, and removes what the run folder has of later steps: metrics, pictures.

    Raises UserError if the disk has no room for the checkpoints.
    """
    step, paths = int(gan.step.numpy()), run.checkpoints()
    state = gan.variables + gan.generator_optimizer.variables + gan.discriminator_optimizer.variables
    size = sum(4 * math.prod(v.shape) for v in state)  # bytes, float32
    run.check_space((checkpoints_to_keep + 1 - len(paths)) * size)
    run.metrics_log.truncate_after(step)
    run.remove_pictures_after(step)
    run.remove_unfinished()
    kept = [path for path in reversed(paths) if int(path.rpartition("-")[2]) <= step]
    if kept:
        # TensorFlow's own list may be missing, out of date, or name a damaged checkpoint. Without time stamps it would
        # keep the old ones for ever.
        times = [os.path.getmtime(f"{path}.index") for path in kept]
        tf.compat.v1.train.update_checkpoint_state(
            str(run.checkpoints_path), kept[-1], kept, all_model_checkpoint_timestamps=times
        )
    return tf.train.CheckpointManager(make_checkpoint(gan), str(run.checkpoints_path), max_to_keep=checkpoints_to_keep)


def save_step(gan, manager, generator_path, step):
    """Saves the averaged generator, then the checkpoint of a step; raises UserError if that is not possible."""
    try:
        save_generator(gan.ema_generator, generator_path, {"step": step})
        manager.save(checkpoint_number=step)
    except (OSError, tf.errors.OpError) as error:  # TensorFlow and HDF5 report a full disk in their own ways
        shutil.rmtree(os.path.join(manager.directory, f"ckpt-{step}_temp"), ignore_errors=True)
        reason = " ".join(str(error).split())[-160:]
        raise UserError(
            f"{manager.directory}: the checkpoint of step {step} cannot be written ({reason}). Earlier checkpoints are "
            "intact: free some disk space or fix the cause, and run the same command to continue."
        ) from None


class Checkpoints(StepCallback):
    """Saves what a resume needs, and the averaged generator as a `.keras` file, every `interval` steps and at the end.

    Both appear under their names only when they are complete. The last checkpoint is saved after everything else of
    the last step: once it exists the run is over, and a process started after a kill would add nothing. For the same
    reason the generator is saved before its checkpoint; the file says which step it is of.

    Args:
        manager: tf.train.CheckpointManager.
        interval: int, steps from one checkpoint to the next.
        generator_path: Of the generator; ends in `.keras`.
        steps: int, of the whole run.
    """

    def __init__(self, manager, interval, generator_path, steps):
        super().__init__(interval)
        self.manager, self.generator_path, self.steps = manager, str(generator_path), steps

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.saved_step = self.first_step

    def at_interval(self, step):
        if step < self.steps:
            self._save()

    def on_train_end(self, logs=None):
        if self.saved_step != self.last_step:
            self._save()

    def _save(self):
        save_step(self.model, self.manager, self.generator_path, self.last_step)
        self.saved_step = self.last_step
