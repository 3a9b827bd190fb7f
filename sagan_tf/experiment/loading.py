"""Loads the networks of a run at a step; nothing in the run folder changes."""

import os
import sys
from dataclasses import dataclass

import keras

from sagan_tf.errors import UserError, summarize
from sagan_tf.experiment.build import build_networks
from sagan_tf.experiment.checkpoints import restore
from sagan_tf.files.atomic import read_unreplaced
from sagan_tf.files.patterns import pattern_letter
from sagan_tf.generation.loading import read_generator
from sagan_tf.generation.sampler import count_classes
from sagan_tf.runs.folder import Run
from sagan_tf.training import SAGAN

_NOT_RESTORED = "cannot be restored into the networks of its config"


@dataclass(frozen=True)
class Networks:
    """Networks of a run.

    Args:
        generator: keras.Model, the averaged generator.
        discriminator: keras.Model; None if it was not asked for.
        trained_generator: keras.Model, the generator before averaging; None if the discriminator was not asked for.
        num_classes: int, or None without classes.
        step: int; None if its file does not record it.
    """

    generator: keras.Model
    discriminator: keras.Model | None
    num_classes: int | None
    step: int | None
    trained_generator: keras.Model | None = None


def known_class_names(run, num_classes):
    """Names of a run's classes, without opening its data: tuple of str; None if unknown, or without classes."""
    names = None if num_classes is None else run.known_class_names()
    return tuple(names) if names and len(names) == num_classes else None


def class_names(run, num_classes):
    """As `known_class_names`, but numbers if the names are unknown."""
    return _or_numbers(known_class_names(run, num_classes), num_classes)


def known_class_names_beside(path, num_classes):
    """As `known_class_names`, of a generator's file in any folder, also one with a config of something else."""
    try:
        return known_class_names(Run(path.parent), num_classes)
    except UserError as error:
        print(f"Warning: the classes of {path} have no names here: {error}", file=sys.stderr)
        return None


def class_names_beside(path, num_classes):
    """As `known_class_names_beside`, but numbers if the names are unknown."""
    return _or_numbers(known_class_names_beside(path, num_classes), num_classes)


def _or_numbers(names, num_classes):
    return names if names or num_classes is None else tuple(map(str, range(num_classes)))


def load_model(run, path=None):
    """Loads the averaged generator of a run, by default the newest; raises UserError if the file cannot be read."""
    path = path or run.generator_path
    try:
        return read_generator(path)
    except Exception as error:  # damaged files raise errors of any type
        raise UserError(f"{path}: cannot be loaded as a generator of sagan_tf: {summarize(error)}") from None


def restore_networks(run, step=None, discriminator=False, best=False):
    """Restores networks of a run, which may be training, finished or killed.

    Args:
        run: `Run`.
        step: int, of a checkpoint. None for the newest.
        discriminator: bool. Restore the discriminator too; the newest generator alone needs no checkpoint.
        best: bool. Restore the best generator of the online evaluations.

    Returns:
        Networks.

    Raises:
        UserError: There is no generator or checkpoint yet, none of that step, or it cannot be read.
    """
    if best:
        return _restore_best(run, step)
    run.check_generator()
    steps = run.checkpoint_steps()
    if step is not None and step not in steps:
        available = f"those of {', '.join(map(str, steps))}" if steps else "none"
        raise UserError(f"{run.source}: has no checkpoint of step {step}; it has {available}.")
    # Training may replace the file between the two.
    generator, own_step = read_unreplaced(run.generator_path, lambda: (load_model(run), run.generator_step()))
    num_classes = count_classes(generator)
    if step is None and not discriminator:
        return Networks(generator, None, num_classes, own_step)
    if not steps:
        raise _no_checkpoint(run)
    config = run.config()
    gan = SAGAN(*build_networks(config, num_classes), ema_decay=config.training.ema_decay)
    step = _restore(gan, run, step)
    return Networks(gan.ema_generator, gan.discriminator, num_classes, step, gan.generator)


def _no_checkpoint(run):
    return UserError(f"{run.source}: there is no checkpoint, which alone holds the discriminator.")


def _restore_best(run, step):
    if step is not None:
        raise UserError("the best generator has its own step: give the step or ask for the best, not both.")
    if run.best() is None:
        raise UserError(
            f"{run.source}: no generator was evaluated during training; the option evaluation.interval switches it on."
        )
    path = run.best_generator_path
    generator, best = read_unreplaced(path, lambda: (load_model(run, path), run.best()))
    return Networks(generator, None, count_classes(generator), best["step"])


def _restore(gan, run, step):
    """Restores a checkpoint, for the step None the newest that is not damaged, as training does; returns its step."""
    damaged = {}
    while True:
        # Training may remove and add checkpoints meanwhile.
        readable = (each for each in run.checkpoint_steps() if each not in damaged)
        chosen = max(readable, default=None) if step is None else step
        if chosen is None and not damaged:
            raise _no_checkpoint(run)
        if chosen is None:
            chosen = max(damaged)
            raise UserError(f"{run.checkpoint_path(chosen)}: {_NOT_RESTORED}: {damaged[chosen]}")
        path = run.checkpoint_path(chosen)
        if letter := pattern_letter(path):
            raise UserError(
                f"{path}: cannot be read, since TensorFlow takes `{letter}` for a pattern. Rename the folder of the "
                "run."
            )
        reason = restore(gan, path, optimizers=False)
        if reason is None:
            return chosen
        if step is not None:
            raise UserError(f"{path}: {_NOT_RESTORED}: {reason}")
        damaged[chosen] = reason
        if os.path.exists(f"{path}.index"):
            print(f"{path}: {_NOT_RESTORED}; trying the one before it: {reason}", file=sys.stderr)
