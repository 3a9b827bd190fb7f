"""Detects failing training: values that are not finite, a saturated, guessing or dead discriminator, mode collapse."""

import keras
import numpy as np
import tensorflow as tf

from sagan_tf.training.loss_scale import MINIMUM_SCALE, loss_scaling_optimizers
from sagan_tf.training.step_metrics import PENALTIES

# One batch of all classes; diversity is measured within each group of one class.
SAMPLES, GROUPS = 64, 8
SATURATED_ACCURACY, SATURATED_LOSS = 0.999, 0.02
COLLAPSED_SHARE = 0.2
# In 90 runs on twins and CIFAR-10, those that learned had up to 4 such lines in a row, the others 10 or more.
GUESSED_ACCURACY, GUESSING_LINES = (0.48, 0.52), 8
# Of a loss of differences of logits the gradients cancel only up to rounding; in runs that learned it was above 0.3.
_DEAD_NORMS = {"d": 1e-4, "g": 0.0}
# Losses that put the logits of real images above 0 and those of generated ones below, or compare the two, as
# `d_accuracy` does; another one may tell images apart by another limit.
_JUDGED_BY_SIGN = ("hinge", "non_saturating", "relativistic")
_FEATURE_SIZE = 8  # px


class TrainingFailure(Exception):
    """Training cannot continue as it is.

    Args:
        kind: `divergence` or `collapse`.
        step: int, at which it was detected.
        message: str, what is wrong and what may help.
    """

    def __init__(self, kind, step, message):
        super().__init__(message)
        self.kind, self.step = kind, step


class Guard:
    """Checks the networks and the means of every metrics line.

    It detects five failures: a loss or a weight that is not finite; a saturated discriminator, whose loss is nearly 0,
    so that it hardly learns any more; a guessing one, which for eight lines in a row is right about half of the images
    (not looked for with the losses `wasserstein` and `least_squares`, whose logits have no limit at 0); a dead one,
    which gives all images the same logit, so that no network has a gradient; and mode collapse, where images of fixed
    latents become alike: their diversity falls below a fifth of the largest of the run.

    Args:
        sample: Function without arguments that gives the generator's images of fixed latents: (64, H, W, C) float32 in
            [-1, 1], 8 for each of 8 labels in order. Not the averaged generator's, which would show a collapse late.
        stop_on_collapse: bool. Raise `TrainingFailure` for these, too, instead of one warning.
        warn: Function of a str.
        signs: `FailureSigns` of the metrics lines so far; None if there are none.
    """

    def __init__(self, sample, stop_on_collapse=False, warn=print, signs=None):
        self._sample, self._stop_on_collapse, self._warn = sample, stop_on_collapse, warn
        self._signs, self._warned = signs or FailureSigns(), set()

    def check(self, gan, step, means):
        """Checks the networks and the means since the last metrics line.

        Args:
            gan: SAGAN.
            step: int.
            means: dict of floats, as in the metrics file.

        Returns:
            dict of further metrics: `sample_diversity`.

        Raises:
            TrainingFailure: Training diverged, or collapsed and `stop_on_collapse` is set.
        """
        check_finite(gan, step, means)
        diversity = self.diversity()
        largest = self._signs.largest_diversity
        failing = self._signs.of({**means, "sample_diversity": diversity})
        is_augmented = gan.augmentation or gan.ada_target
        augmentation = "" if is_augmented else "training.augmentation [color, translation], "
        if gan.adversarial_loss.name not in _JUDGED_BY_SIGN:
            failing.discard("guessing")
        self._report("saturated", "saturated" in failing, step, (
            f"the discriminator tells all real and generated images apart (accuracy {means['d_accuracy']:.3f}, loss "
            f"{_without_penalties(means):.4f}) and hardly learns any more. Likely to help: a lower "
            f"discriminator_optimizer.learning_rate, {augmentation}more images."
        ))  # fmt: skip
        self._report("guessing", "guessing" in failing, step, (
            f"the discriminator is right about half of the images (accuracy {means['d_accuracy']:.3f}) for "
            f"{GUESSING_LINES} metrics lines in a row, so the generator learns little. Likely to help: a lower "
            "generator_optimizer.learning_rate, training.d_steps 2, a larger discriminator.channels."
        ))  # fmt: skip
        self._report("dead", "dead" in failing, step, (
            "the gradients of both networks are 0, and nothing is trained any more: the discriminator gives all images "
            "the same logit. Likely to help: lower learning rates from the start, training.r1_weight 1, another "
            "training.seed."
        ))  # fmt: skip
        self._report("collapsed", "collapsed" in failing, step, (
            f"mode collapse: the diversity of images of fixed latents fell to {diversity:.3f}, from up to "
            f"{largest:.3f}. Likely to help: a lower generator_optimizer.learning_rate, a larger "
            f"training.batch_size, {augmentation}training.d_steps 2."
        ))  # fmt: skip
        return {"sample_diversity": diversity}

    def diversity(self):
        """Measures how different the generator's images of the fixed latents are.

        Returns:
            float in [0, 2]: root mean square difference over pairs of one label, of images in [-1, 1] averaged to
            8x8 px.
        """
        images = np.float64(self._sample())
        (rows, columns), per_group = (side // _FEATURE_SIZE for side in images.shape[1:3]), SAMPLES // GROUPS
        small = images.reshape(GROUPS, per_group, _FEATURE_SIZE, rows, _FEATURE_SIZE, columns, -1).mean((3, 5))
        # Over all pairs, the mean square of a difference is twice the variance.
        return float(np.sqrt(2 * small.var(axis=1).mean() * per_group / (per_group - 1)))

    def _report(self, name, has_failed, step, message):
        """Raises or warns, once until the failure is over."""
        if not has_failed:
            self._warned.discard(name)
        elif self._stop_on_collapse:
            raise TrainingFailure("collapse", step, message)
        elif name not in self._warned:
            self._warned.add(name)
            self._warn(f"Warning at step {step}: {message}")


def check_finite(gan, step, means):
    """Raises `TrainingFailure` if a mean, or a weight of a network, is not finite; arguments as in `Guard.check`."""
    names = [name for name, value in means.items() if not np.isfinite(value)]
    scaling = loss_scaling_optimizers(gan).items()
    names += [f"{name}'s gradient" for name, one in scaling if float(one.dynamic_scale.numpy()) <= MINIMUM_SCALE]
    if names or not bool(_all_finite(gan)):
        subject = ", ".join(names) or "a weight"
        raise TrainingFailure(
            "divergence", step, f"training diverged: {subject} became infinite or NaN before step {step}. Likely "
            "to help: lower learning rates, training.r1_weight 1, hardware.precision float32, another "
            "training.seed."
        )  # fmt: skip


class FailureSigns:
    """Names what fails in the lines of a metrics file, which are given in order.

    Args:
        largest_diversity: float, the largest `sample_diversity` of the lines before.
    """

    def __init__(self, largest_diversity=0.0):
        self.largest_diversity = largest_diversity
        self._lines_of_guessing = 0

    def of(self, means):
        """Returns a set of `saturated`, `guessing`, `dead` and `collapsed`; `means` is the next line, a dict."""
        accuracy, diversity = means["d_accuracy"], means["sample_diversity"]
        is_chance = GUESSED_ACCURACY[0] < accuracy < GUESSED_ACCURACY[1]
        self._lines_of_guessing = self._lines_of_guessing + 1 if is_chance else 0
        # Without any update, as at the start in float16, there is no gradient to judge by.
        norms = {x: means.get(f"{x}_gradient_norm") for x in _DEAD_NORMS if means.get(f"{x}_skipped", 0) < 1}
        is_dead = all(norms.get(x) is not None and norms[x] <= largest for x, largest in _DEAD_NORMS.items())
        signs = {
            "saturated": accuracy >= SATURATED_ACCURACY and abs(_without_penalties(means)) < SATURATED_LOSS,
            "guessing": self._lines_of_guessing >= GUESSING_LINES and not is_dead,
            "dead": is_dead,
            "collapsed": diversity < COLLAPSED_SHARE * self.largest_diversity,
        }
        self.largest_diversity = max(self.largest_diversity, diversity)
        return {name for name, holds in signs.items() if holds}


def _without_penalties(means):
    """The adversarial loss of the discriminator; `d_loss` includes the penalties."""
    return means["d_loss"] - sum(means.get(name) or 0.0 for name in PENALTIES)


def _all_finite(gan):
    weights = [w for w in gan.weights if keras.backend.is_float_dtype(w.dtype)]
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(tf.convert_to_tensor(w))) for w in weights])
