"""Inversion of a generator: the latents, and classes, of given images."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from sagan_tf.generation.folding import FoldedGenerator, fold_generator
from sagan_tf.generation.labels import as_labels
from sagan_tf.generation.latents import draw_latents
from sagan_tf.generation.least_squares import minimize_squares
from sagan_tf.generation.pixels import from_levels, to_levels
from sagan_tf.generation.truncation import NO_TRUNCATION
from sagan_tf.utils.progress import progress_bar

_BATCH = 64  # candidates optimized at a time
_POOL, _COARSE = 512, 8  # samples to start from, which are compared with the images at 8 px
_SCALES = 4  # of the pixel loss, each half as large as the one before
_FEATURES = "output_relu"  # the discriminator's last feature map
_START_WEIGHT = 0.9  # of the class of a start
_MAJORITY = 0.5  # weight of a class from which it is tried as the only one
_ROUNDING_LOSS = (2 / 255) ** 2 / 12 * sum(0.25**scale for scale in range(_SCALES))  # of pixels rounded to uint8
_REACHED, _NEAR = 1.2, 10.0  # times that loss: reproduced up to rounding, and nearly
_DECAYS, _EPSILON = (0.9, 0.99), 1e-8  # of Adam


@dataclass(frozen=True)
class Inversion:
    """What `invert` finds for N images.

    Symbols: N images, H, W height and width of an image in px, C image channels, D latent dimensions, K classes.

    Attributes:
        latents: (N, D) float32.
        labels: (N,) int32, the given ones or the classes of the largest weights; None without classes.
        class_weights: (N, K) float32, which sum to 1; None without classes.
        images: (N, H, W, C) uint8, the generator's images of these latents and class weights.
        psnr: (N,) float64, peak signal-to-noise ratio of `images` against the given ones in dB; infinity where equal.
    """

    latents: NDArray[np.float32]
    labels: NDArray[np.int32] | None
    class_weights: NDArray[np.float32] | None
    images: NDArray[np.uint8]
    psnr: NDArray[np.float64]


def invert(
    generator: Any,
    images: Any,
    labels: int | str | Sequence[int | str] | NDArray[np.integer[Any]] | None = None,
    discriminator: keras.Model | None = None,
    *,
    steps: int = 300,
    restarts: int = 4,
    refinements: int = 100,
    learning_rate: float = 0.1,
    feature_weight: float = 0.1,
    seed: int = 0,
    show_progress: bool = True,
) -> Inversion:
    """Finds latents whose images are closest to given ones, by Adam from several starts, then by Levenberg-Marquardt.

    The starts of an image are the samples most similar to it at 8 px. The loss is the mean squared error of the pixels,
    summed over four scales, and of the discriminator's last feature map, relative to its mean square. The best start
    is refined by the Levenberg-Marquardt method, the class weights held, and once more at the class of the largest
    weight alone if that is 0.5 or more; the closer one is kept. Latents are not kept near the normal distribution:
    those of images that the generator cannot make may be far from it.

    Symbols: N images, H, W height and width of an image in px, C image channels, D latent dimensions, K classes.

    Args:
        generator: keras.Model of `build_generator`, `FoldedGenerator`, or what `load_run`, `load_generator` or
            `pretrained` returns.
        images: (N, H, W, C), uint8 or floats in [-1, 1], N >= 1.
        labels: (N,) ints in 0 .. K-1, or names of classes that `generator` knows; or one for all images. None: the
            weights of a mixture of classes are optimized too.
        discriminator: keras.Model of `build_discriminator`, for the loss of features; None for pixels only.
        steps: int >= 1, of Adam from the starts.
        restarts: int >= 1, starts per image.
        refinements: int >= 0, Jacobians that each search by the Levenberg-Marquardt method computes at most. It ends
            where it gains nothing more or, without `discriminator`, where the image is reproduced up to the rounding of
            its pixels; where that is nearly so, the next start is refined too. Each costs 2 D images of the generator
            and about 200 more.
        learning_rate: float > 0, at first; it falls to 0 along a cosine.
        feature_weight: float >= 0, of the loss of features.
        seed: int of 64 bits, of the samples that are starts and of noise in the refinement.
        show_progress: bool. Show a progress bar.

    Returns:
        Inversion.

    Raises:
        ValueError: An argument is out of range, or images, labels or discriminator do not fit the generator.
        TypeError: `generator` or `discriminator` is something else.

    Source: Zhu et al. 2016, section 3.1, https://arxiv.org/abs/1609.03552, for the optimization; Pan et al. 2020,
        section 3.2, https://arxiv.org/abs/2003.13659, for the features of the discriminator; Madsen et al. 2004,
        "Methods for non-linear least squares problems", section 3.5, for the refinement.
    """
    model = generator if isinstance(generator, keras.Model | FoldedGenerator) else getattr(generator, "model", None)
    if model is None:
        raise TypeError(f"`generator` must be a network, or what `load_run` returns. Received: {generator!r}.")
    folded, levels = fold_generator(model), _levels(images)
    _check(folded, levels, discriminator, steps, restarts, refinements, learning_rate, feature_weight, seed)
    steps, restarts, refinements, seed = int(steps), int(restarts), int(refinements), int(seed)
    labels = None if labels is None else _numbers(labels, folded, getattr(generator, "class_names", None), len(levels))
    objective = _Objective(folded, discriminator, feature_weight, learns_classes=labels is None)
    targets = from_levels(levels)
    starts = _starts(objective, targets, labels, restarts, seed)  # each (N, restarts, D or K)
    per_batch, minimized = max(1, _BATCH // restarts), []
    batches = [slice(first, first + per_batch) for first in range(0, len(targets), per_batch)]
    total = steps * len(batches) + refinements * len(targets)
    with progress_bar(total=total, unit="step", desc="inverting", leave=False, disable=not show_progress) as bar:
        for batch in batches:
            values = [value[batch].reshape(-1, value.shape[-1]) for value in starts]
            goal = objective.goal(targets[batch])
            repeated = [np.repeat(part, restarts, axis=0) for part in goal]
            values, errors = objective.minimize(values, repeated, steps, learning_rate, bar)
            ranks = errors.reshape(-1, restarts).argsort(1) + restarts * np.arange(len(goal[0]))[:, None]
            ranked = [[[value[[row]] for value in values] for row in rows] for rows in ranks]  # the best start first
            if refinements:
                goals = [[part[i : i + 1] for part in goal] for i in range(len(goal[0]))]
                best = [objective.refine(*pair, refinements, seed, bar) for pair in zip(ranked, goals)]
            else:
                best = [starts_of_image[0] for starts_of_image in ranked]
            minimized.append([np.concatenate(parts) for parts in zip(*best)])
    return _result(objective, levels, [np.concatenate(parts) for parts in zip(*minimized)])


def _levels(images):
    """Images as uint8."""
    images = np.asarray(images)
    if images.dtype != np.uint8 and images.size:
        largest, is_float = abs(np.float32(images)).max(), images.dtype.kind not in "biu"
        if not (is_float and largest <= 1):
            raise ValueError(f"`images` must be in [-1, 1], or uint8. Received: {images.dtype} up to {largest:g}.")
        if images.min() >= 0:
            advice = "Scale them by `2 * image - 1`."
            warnings.warn(f"`images` are all in [0, 1], taken for bright ones. {advice}", stacklevel=3)
    return np.asarray(to_levels(images))


def _numbers(labels, folded, class_names, count):
    if folded.num_classes is None:
        raise ValueError(f"`labels` must be None: the generator has no classes. Received: {labels!r}.")
    labels = as_labels(labels, class_names, count)
    if labels.min() < 0 or labels.max() >= folded.num_classes:
        raise ValueError(f"`labels` must be in 0 .. {folded.num_classes - 1}. Received: {labels}.")
    return labels


def _check(folded, levels, discriminator, steps, restarts, refinements, learning_rate, feature_weight, seed):
    if levels.ndim != 4 or levels.shape[1:] != folded.image_shape or not len(levels):
        raise ValueError(f"`images` must be (N, {', '.join(map(str, folded.image_shape))}). Received: {levels.shape}.")
    numbers = (steps, restarts, refinements, seed)
    is_whole = all(isinstance(each, int | np.integer) and not isinstance(each, bool) for each in numbers)
    is_counted = is_whole and min(steps, restarts) >= 1 and refinements >= 0
    if not is_counted or not 0 < learning_rate < np.inf or not 0 <= feature_weight < np.inf:
        raise ValueError(
            "`steps` and `restarts` must be ints >= 1, `refinements` an int >= 0, `learning_rate` > 0, "
            "`feature_weight` >= 0, and `seed` an int. "
            f"Received: {steps=}, {restarts=}, {refinements=}, {learning_rate=}, {feature_weight=}, {seed=}."
        )
    if not -(2**63) <= seed < 2**63 - max(_POOL, restarts):
        raise ValueError(f"`seed` must leave room for {max(_POOL, restarts)} seeds of 64 bits. Received: {seed=}.")
    if discriminator is None:
        return
    if not isinstance(discriminator, keras.Model) or _FEATURES not in (layer.name for layer in discriminator.layers):
        raise TypeError(f"`discriminator` must be a network of `build_discriminator`. Received: {discriminator!r}.")
    shape = tuple(discriminator.inputs[0].shape[1:])
    if shape != folded.image_shape:
        raise ValueError(f"`discriminator` must take images {folded.image_shape}. Received: one of images {shape}.")


class _Objective:
    """Losses of values, which are latents (B, D) and, with classes, logits (B, K); traced once, for any B."""

    def __init__(self, folded, discriminator, feature_weight, learns_classes):
        self.folded, self._weight, self._features = folded, feature_weight, None
        goal = [folded.image_shape]
        if discriminator is not None:
            output = discriminator.get_layer(_FEATURES).output
            self._features = keras.Model(discriminator.inputs[0], output)
            goal.append(output.shape[1:])
        values = [(folded.latent_dim,)] + ([(folded.num_classes,)] if folded.num_classes else [])
        values, goal = ([tf.TensorSpec([None, *shape]) for shape in shapes] for shapes in (values, goal))
        self._learned = len(values) if learns_classes else 1
        self.residuals = tf.function(
            lambda values, goal: self._residuals(self._images(values), goal),
            input_signature=[values, goal], autograph=False,
        )  # fmt: skip
        self.images = tf.function(self._images, input_signature=[values], autograph=False)
        slots, number = [(value, value) for value in values[: self._learned]], tf.TensorSpec([])
        self._step = tf.function(
            self._take_step, input_signature=[values, slots, goal, number, number], autograph=False
        )

    def _images(self, values):
        if self.folded.class_rows is None:
            return self.folded.body(values[0], training=False)["image"]
        rows = tf.matmul(tf.nn.softmax(values[1]), self.folded.class_rows.value)
        return self.folded.body([values[0], rows], training=False)["image"]

    def _features_of(self, images):
        return tf.cast(self._features(images, training=False), tf.float32)

    def goal(self, targets):
        """What the images should be: [images] and, with a discriminator, their features; arrays."""
        return [targets] if self._features is None else [targets, self._features_of(targets).numpy()]

    def _residuals(self, images, goal):
        """(B, R), whose squares sum to the losses."""
        difference = images - goal[0]
        parts = [_root_of_mean(difference)]
        for _ in range(_SCALES - 1):
            difference = tf.nn.avg_pool2d(difference, 2, 2, "VALID")
            parts.append(_root_of_mean(difference))
        if self._features is not None:
            factors = tf.sqrt(self._weight / (_mean_square(goal[1]) + _EPSILON))
            parts.append(factors[:, None] * _root_of_mean(self._features_of(images) - goal[1]))
        return tf.concat(parts, 1)

    def _take_step(self, values, slots, goal, rate, count):
        """One step of Adam, of each image for itself: new values and slots."""
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = tf.reduce_sum(self._residuals(self._images(values), goal) ** 2)
        values, slots = list(values), list(slots)
        for i, gradient in enumerate(tape.gradient(loss, values[: self._learned])):
            mean, square = slots[i]
            mean += (1 - _DECAYS[0]) * (gradient - mean)
            square += (1 - _DECAYS[1]) * (gradient**2 - square)
            slots[i] = mean, square
            corrected = [slot / (1 - decay**count) for slot, decay in zip(slots[i], _DECAYS)]
            values[i] -= rate * corrected[0] / (tf.sqrt(corrected[1]) + _EPSILON)
        return values, slots

    def minimize(self, values, goal, steps, learning_rate, bar):
        """Takes steps from values: (values, mean squared errors of the images), arrays."""
        slots = [(np.zeros_like(value), np.zeros_like(value)) for value in values[: self._learned]]
        for i in range(steps):
            rate = learning_rate * (1 + np.cos(np.pi * i / steps)) / 2
            values, slots = self._step(values, slots, goal, np.float32(rate), np.float32(i + 1))
            bar.update()
        errors = _mean_square(self.images(values) - goal[0])
        return [np.asarray(value) for value in values], errors.numpy()

    def refine(self, starts, goal, jacobians, seed, bar):
        """Values, arrays, refined from the first start of an image, or from the next ones.

        An image that is reproduced nearly, but not up to rounding, is one of the generator's, at another latent.
        """
        best, lowest = None, np.inf
        for i, values in enumerate(starts):
            bar.total += jacobians if i else 0
            refined, loss = self._refine_start(values, goal, jacobians, seed, bar)
            if loss < lowest or not i:
                best, lowest = refined, loss
            if not _REACHED < lowest / _ROUNDING_LOSS < _NEAR:
                break
        return best

    def _refine_start(self, values, goal, jacobians, seed, bar):
        """Refines the latent; the class weights stay, or become those of one class. New values and their loss."""
        held = values[1:]
        choices = [held]
        if self._learned > 1 and tf.reduce_max(tf.nn.softmax(held[0])) >= _MAJORITY:
            choices.insert(0, [_class_logits(held[0].argmax(1), self.folded.num_classes, 1.0)])
        best, lowest = None, np.inf
        for i, choice in enumerate(choices):
            bar.total += jacobians if i else 0
            latent, loss = self._refine_latent(values[0], choice, goal, jacobians, seed, bar)
            if loss < lowest or not i:
                best, lowest = [latent, *choice], loss
            if lowest <= _REACHED * _ROUNDING_LOSS:
                break
        return best, lowest

    def _refine_latent(self, latent, held, goal, jacobians, seed, bar):
        """Latent (1, D) and loss."""

        def residuals(latents):
            parts = np.array_split(latents, -(-len(latents) // _BATCH))
            rows = [[np.repeat(value, len(part), axis=0) for value in held] for part in parts]
            return np.concatenate([self.residuals([part, *row], goal) for part, row in zip(parts, rows)])

        first, point = bar.n, latent[0]
        for point in minimize_squares(residuals, latent[0], jacobians, _ROUNDING_LOSS, seed % 2**63):
            bar.update()
        bar.update(first + jacobians - bar.n)
        return point[None], np.sum(np.float64(residuals(point[None])) ** 2)


def _root_of_mean(tensor):
    """(B, n), whose squares sum to the mean square."""
    rows = tf.reshape(tensor, (tf.shape(tensor)[0], -1))
    return rows / tf.sqrt(tf.cast(tf.shape(rows)[1], rows.dtype))


def _mean_square(tensor):
    """(B,)."""
    return tf.reduce_mean(tensor**2, axis=range(1, len(tensor.shape)))


def _starts(objective, targets, labels, restarts, seed):
    """Latents (N, restarts, D) and, with classes, logits (N, restarts, K), of the most similar samples."""
    folded, count = objective.folded, max(_POOL, restarts)
    seeds = tf.range(seed, seed + count, dtype=tf.int64)
    samples = [draw_latents(seeds, tf.fill([count], NO_TRUNCATION), folded.latent_dim).numpy()]
    if folded.num_classes:
        classes = np.resize(np.arange(folded.num_classes) if labels is None else np.unique(labels), count)
        samples.append(_class_logits(classes, folded.num_classes, 1.0))
    coarse, goals = (_coarse(images) for images in (_images_of(objective, samples), targets))
    distances = (goals**2).sum(1)[:, None] - 2 * goals @ coarse.T + (coarse**2).sum(1)
    nearest = np.argsort(distances, axis=1)[:, :restarts]
    starts = [samples[0][nearest]]
    if folded.num_classes and labels is None:
        starts.append(_class_logits(classes, folded.num_classes, _START_WEIGHT)[nearest])
    elif folded.num_classes:
        starts.append(np.repeat(_class_logits(labels, folded.num_classes, 1.0)[:, None], restarts, axis=1))
    return starts


def _images_of(objective, values):
    batches = range(0, len(values[0]), _BATCH)
    return np.concatenate([objective.images([value[i : i + _BATCH] for value in values]) for i in batches])


def _class_logits(labels, num_classes, weight):
    """(N, K) float32, whose softmax gives a label the weight, and the other classes the rest."""
    others = (1 - weight) / max(1, num_classes - 1)
    with np.errstate(divide="ignore"):  # a weight of 0
        return np.log(np.float32(np.where(np.arange(num_classes) == labels[:, None], weight, others)))


def _coarse(images):
    """(N, values at 8 x 8 px)."""
    window = [side // _COARSE for side in images.shape[1:3]]
    return tf.nn.avg_pool2d(images, window, window, "VALID").numpy().reshape(len(images), -1)


def _result(objective, levels, values):
    images = to_levels(_images_of(objective, values))
    error = ((np.float64(images) - levels) ** 2).mean((1, 2, 3))
    with np.errstate(divide="ignore"):
        psnr = 10 * np.log10(255**2 / error)
    weights = None if len(values) == 1 else tf.nn.softmax(values[1]).numpy()
    labels = None if weights is None else np.int32(weights.argmax(1))
    return Inversion(values[0], labels, weights, images, psnr)
