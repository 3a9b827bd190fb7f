"""The networks of a run as they were at a step, for those who look at them; nothing in the run folder changes."""

from dataclasses import dataclass

import keras

from sagan_tf.data import embedded
from sagan_tf.errors import UserError, did_you_mean
from sagan_tf.experiment.build import build_networks
from sagan_tf.experiment.checkpoints import restore
from sagan_tf.generation.loading import read_generator
from sagan_tf.generation.sampler import count_classes
from sagan_tf.training import SAGAN

_CLASSES_SHOWN = 10  # Where none are named.


@dataclass(frozen=True)
class Networks:
    """Networks of a run.

    Args:
        generator: keras.Model, the averaged one.
        discriminator: keras.Model, or None where it was not asked for.
        num_classes: int, or None without classes.
        step: int, the step they are of; None for a generator without a checkpoint.
    """

    generator: keras.Model
    discriminator: keras.Model | None
    num_classes: int | None
    step: int | None


def load_generator(run, path=None):
    """Loads the averaged generator of a run.

    Args:
        run: `Run`.
        path: Path of another generator in the run folder; None: the newest.

    Returns:
        keras.Model.

    Raises:
        UserError: The file cannot be read.
    """
    path = path or run.generator_path
    try:
        return read_generator(path)
    except Exception as error:  # damaged bytes make zip, JSON, HDF5 and Keras raise anything
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: this is not a generator of sagan_tf: {reason}") from None


def checkpoint_steps(run):
    """Lists the steps whose checkpoints a run has.

    Args:
        run: `Run`.

    Returns:
        list of ints, ascending.
    """
    return sorted(int(path.rpartition("-")[2]) for path in run.checkpoints())


def restore_networks(run, step=None, discriminator=False, best=False):
    """Restores networks of a run that is going on, finished or was killed.

    Args:
        run: `Run`.
        step: int, of a checkpoint; None: the newest.
        discriminator: bool. The generator alone needs no checkpoint.
        best: bool. The generator that the evaluations during training found best, instead of one of a step.

    Returns:
        Networks.

    Raises:
        UserError: There is no generator or checkpoint yet, none of that step, or it cannot be read.
    """
    if best:
        return _restore_best(run, step)
    if not run.generator_path.is_file():
        raise UserError(
            f"{run.generator_path}: there is no generator yet; training writes it with its first checkpoint. "
            f"Train on with: python -m sagan_tf.train --config {run.config_path}"
        )
    steps = checkpoint_steps(run)
    if step is not None and step not in steps:
        has = f"those of {', '.join(map(str, steps))}" if steps else "none"
        raise UserError(f"--step: {run.path} has no checkpoint of step {step}; it has {has}.")
    generator = load_generator(run)
    num_classes = count_classes(generator)
    if step is None and not discriminator:
        return Networks(generator, None, num_classes, steps[-1] if steps else None)
    if not steps:
        raise UserError(f"{run.checkpoints_path}: there is no checkpoint, and the discriminator is nowhere else.")
    config = run.config()
    gan = SAGAN(*build_networks(config, num_classes), ema_decay=config.training.ema_decay)
    step = _restore(gan, run, steps[-1] if step is None else step, newest=step is None)
    return Networks(gan.ema_generator, gan.discriminator, num_classes, step)


def _restore_best(run, step):
    if step is not None:
        raise UserError("--best: the best generator has a step of its own; leave --step out.")
    found = run.best()
    if found is None:
        raise UserError(
            f"{run.path}: no generator was evaluated in training; its --evaluation.interval has that done."
        )
    generator = load_generator(run, run.best_generator_path)
    return Networks(generator, None, count_classes(generator), found["step"])


def _restore(gan, run, step, newest):
    """Restores a checkpoint, and gives its step. One that training has just replaced gives way to its heir."""
    path = run.checkpoints_path / f"ckpt-{step}"
    reason = restore(gan, str(path), optimizers=False)
    if reason is not None:
        heir = max(checkpoint_steps(run), default=step)
        if newest and heir != step:
            return _restore(gan, run, heir, newest)
        raise UserError(f"{path}: cannot be restored into the networks of its config: {reason}")
    return step


def class_names(run, num_classes):
    """Names of a run's classes, without opening its data.

    Args:
        run: `Run`.
        num_classes: int, or None.

    Returns:
        tuple of K str, numbers where no names are known; None without classes.
    """
    if num_classes is None:
        return None
    names = run.class_names()
    if not names and run.config().data.name in embedded.NAMES:
        names = embedded.KINDS
    return tuple(names) if names and len(names) == num_classes else tuple(map(str, range(num_classes)))


def choose_classes(wanted, names):
    """Finds the classes that a user named.

    Args:
        wanted: Names and numbers, ("all",), or None for the first ones.
        names: Names of all classes; None without classes.

    Returns:
        dict, label -> name, in the order wanted; None without classes.

    Raises:
        UserError: There are no classes, or there is none of that name or number.
    """
    if names is None:
        if wanted is not None:
            raise UserError("--classes: the model was trained without classes; leave --classes out.")
        return None
    if wanted is None or wanted == ("all",):
        return dict(list(enumerate(names))[: None if wanted else _CLASSES_SHOWN])
    labels = []
    for word in wanted:
        if word in names:
            labels.append(names.index(word))
        elif word.lstrip("-").isdigit():
            labels.append(int(word))
        else:
            hint = did_you_mean(word, names) or f" The classes are {_listed(names)}."
            raise UserError(f"--classes: the model has no class `{word}`.{hint}")
        if not 0 <= labels[-1] < len(names):
            raise UserError(f"--classes: {word} is out of range; the model has the classes 0 .. {len(names) - 1}.")
    return {label: names[label] for label in labels}


def _listed(names):
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
