"""Training that goes wrong: seen at the next line of metrics, named in plain words, with what is likely to help."""

import keras
import numpy as np
import tensorflow as tf

from sagan_tf.training.gan import with_label

# A batch of all classes; within each, pictures are compared.
SAMPLES, GROUPS = 64, 8
SATURATED_ACCURACY, SATURATED_LOSS = 0.999, 0.02
COLLAPSED_SHARE = 0.2
_FEATURE_SIZE = 8  # px


class Trouble(Exception):
    """Training cannot go on as it is.

    Args:
        kind: `divergence` or `collapse`.
        step: int, at which it was seen.
        message: str, what is wrong and what may help.
    """

    def __init__(self, kind, step, message):
        super().__init__(message)
        self.kind, self.step = kind, step


class Guard:
    """Looks at every line of metrics.

    Three kinds of trouble: a loss or a weight that is not finite; a discriminator that tells all pictures apart (its
    loss is nearly 0, and so is what the generator can learn from it); mode collapse, where the pictures of fixed
    latents become alike: their diversity falls below a fifth of the greatest that it has been in the run.

    Args:
        latent: (64, D) float32, the latents, 8 for each of 8 labels in order.
        label: (64,) int32, or None without classes.
        stop_on_collapse: bool. Raise `Trouble` for a collapse too; otherwise it is said once.
        say: Function of a str.
        greatest_diversity: float, the greatest of the run so far.
    """

    def __init__(self, latent, label, stop_on_collapse=False, say=print, greatest_diversity=0.0):
        self._inputs = with_label(tf.constant(latent), None if label is None else tf.constant(label))
        self._stop_on_collapse, self._say = stop_on_collapse, say
        self._greatest, self._said, self._generate = greatest_diversity, set(), None

    def examine(self, gan, step, means):
        """Looks at the network and the means since the last line.

        Args:
            gan: SAGAN.
            step: int.
            means: dict of floats, as in the metrics file.

        Returns:
            dict of more metrics: `sample_diversity`.

        Raises:
            Trouble: Training diverged, or collapsed where that is to stop it.
        """
        self._refuse_non_finite(gan, step, means)
        diversity = self.diversity(gan)
        saturated = means["d_accuracy"] >= SATURATED_ACCURACY and abs(means["d_loss"]) < SATURATED_LOSS
        self._tell("saturated", saturated, step, (
            f"the discriminator tells all pictures apart (accuracy {means['d_accuracy']:.3f}, loss "
            f"{means['d_loss']:.4f}), so that nothing is left to learn from it. Likely to help: a lower "
            "discriminator_optimizer.learning_rate, training.augmentation [color, translation], more pictures."
        ))  # fmt: skip
        self._tell("collapsed", diversity < COLLAPSED_SHARE * self._greatest, step, (
            f"mode collapse: pictures of fixed latents differ by {diversity:.3f}, and have differed by "
            f"{self._greatest:.3f}. Likely to help: a lower generator_optimizer.learning_rate, a larger "
            "training.batch_size, training.augmentation [color, translation], training.d_steps 2."
        ))  # fmt: skip
        self._greatest = max(self._greatest, diversity)
        return {"sample_diversity": diversity}

    def diversity(self, gan):
        """How different the generator's pictures of the fixed latents are.

        Args:
            gan: SAGAN.

        Returns:
            float in [0, 2]: root mean square over pairs of one label, of pictures averaged to 8x8 px, in [-1, 1].
        """
        if self._generate is None:
            # The generator itself: the average would show a collapse late.
            self._generate = tf.function(lambda inputs: gan.generator(inputs, training=False), autograph=False)
        images = np.float64(self._generate(self._inputs).numpy())
        size = images.shape[1] // _FEATURE_SIZE
        small = images.reshape(GROUPS, SAMPLES // GROUPS, _FEATURE_SIZE, size, _FEATURE_SIZE, size, -1).mean((3, 5))
        # Over all pairs, the mean square of a difference is twice the variance.
        pairs = SAMPLES // GROUPS
        return float(np.sqrt(2 * small.var(axis=1).mean() * pairs / (pairs - 1)))

    def _refuse_non_finite(self, gan, step, means):
        bad = [name for name, value in means.items() if not np.isfinite(value)]
        if bad or not bool(_all_finite(gan)):
            what = f"{', '.join(bad)} became" if bad else "a weight became"
            raise Trouble(
                "divergence", step, f"training diverged: {what} not finite before step {step}. Likely to help: lower "
                "learning rates, training.r1_weight 1, hardware.precision float32, another training.seed."
            )  # fmt: skip

    def _tell(self, name, is_so, step, message):
        if not is_so:
            self._said.discard(name)
        elif self._stop_on_collapse:
            raise Trouble("collapse", step, message)
        elif name not in self._said:
            self._said.add(name)
            self._say(f"Warning at step {step}: {message}")


def _all_finite(gan):
    weights = [w for w in gan.weights if keras.backend.is_float_dtype(w.dtype)]
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(tf.convert_to_tensor(w))) for w in weights])
