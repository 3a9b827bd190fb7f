"""The one sampler: seeds, classes and truncation in, 8-bit images or other outputs of the generator out."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from sagan_tf.generation.folding import FoldedGenerator
from sagan_tf.generation.latents import draw_latents, interpolate_latents, interpolate_rows
from sagan_tf.generation.pixels import to_levels
from sagan_tf.generation.replicas import on_all_replicas
from sagan_tf.generation.truncation import NO_TRUNCATION
from sagan_tf.layers import ConditionalBatchNormalization
from sagan_tf.utils.progress import progress_bar

_BAR_BATCHES = 4  # Fewer batches show no progress bar.

_draw = tf.function(draw_latents, autograph=False, reduce_retracing=True)


class Sampler:
    """Generates the images of seeds.

    A seed and a class are one image: in every batch, on one device or several, in training and in the exported model.
    Batches are padded to one size, so that the same kernels run.

    Symbols: N images, H, W height and width of an image in px, C image channels, D latent dimensions, K classes.

    Args:
        generator: `FoldedGenerator`, or keras.Model of `build_generator`, whose weights may change between calls.
        batch_size: int >= 1, images per replica and batch.
        strategy: tf.distribute.Strategy of this process, in whose scope the generator was made; None: the default
            device.
        outputs: Graph function of the generator's float images (B, H, W, C) in [-1, 1] that gives a tuple of tensors or
            None, for `sample_outputs`. None: the images as uint8.
        show_progress: bool. Show a bar for several batches.

    Attributes:
        batch_size: int, images per batch over all replicas.
        latent_dim: int, D.
        num_classes: int, K, or None.
        image_shape: (H, W, C).
    """

    def __init__(
        self,
        generator: FoldedGenerator | keras.Model,
        batch_size: int = 32,
        strategy: tf.distribute.Strategy | None = None,
        outputs: Callable[..., tuple[Any, ...]] | None = None,
        show_progress: bool = True,
    ):
        folded = isinstance(generator, FoldedGenerator)
        model = generator.model if folded else generator
        self.latent_dim, self.image_shape = model.inputs[0].shape[-1], tuple(model.outputs[0].shape[1:])
        self.num_classes = generator.num_classes if folded else count_classes(generator)
        self.batch_size = batch_size * (1 if strategy is None else strategy.num_replicas_in_sync)
        self._class_rows = ops.convert_to_numpy(generator.class_rows) if folded and self.num_classes else None
        self._show_progress = show_progress

        def step(latent, condition=None):
            inputs = latent if condition is None else [latent, condition]
            images = generator.body(inputs)["image"] if folded else generator(inputs, training=False)
            return (to_levels(images),) if outputs is None else outputs(images)

        self._step = on_all_replicas(step, strategy, batch_size)

    def sample(self, seeds, labels=None, truncation=NO_TRUNCATION) -> NDArray[np.uint8]:
        """Generates the images of seeds.

        Args:
            seeds: (N,) ints of 64 bits.
            labels: (N,) ints in 0 .. K-1; None without classes.
            truncation: float > 0, or (N,) of them: largest absolute value of a latent's entry.

        Returns:
            (N, H, W, C) uint8.

        Raises:
            ValueError: A label is out of range, or there are labels without classes or the reverse.
        """
        return self.sample_outputs(seeds, labels, truncation)[0]

    def sample_outputs(self, seeds, labels=None, truncation=NO_TRUNCATION) -> tuple[Any, ...]:
        """Gives what `outputs` makes of the images of seeds: a tuple of arrays with N rows and None.

        Arguments and errors are those of `sample`.
        """
        return self._run(self.inputs(seeds, labels, truncation))

    def inputs(self, seeds, labels=None, truncation=NO_TRUNCATION):
        """Lists what the generator takes for seeds.

        Arguments and errors are those of `sample`.

        Returns:
            List of latents (N, D) float32 and, with classes, labels (N,) int32, or class rows (N, R) if it is folded.
        """
        latents, conditions = _draw_latents(seeds, self.latent_dim, truncation), self._conditions(labels)
        return [latents] if conditions is None else [latents, conditions]

    def sample_moved(self, seeds, labels, steps, truncation=NO_TRUNCATION):
        """Generates the images of seeds whose latents are moved.

        Args:
            seeds, labels, truncation: As in `sample`.
            steps: (N, D) floats, added to the latents; or (D,), to all.

        Returns:
            (N, H, W, C) uint8, or what `outputs` gives first.

        Raises:
            ValueError: As `sample`.
        """
        latents, *conditions = self.inputs(seeds, labels, truncation)
        return self._run([latents + np.float32(steps), *conditions])[0]

    def interpolate(self, start, end, fractions, truncation=NO_TRUNCATION):
        """Generates what lies between two images: on the great circle of latents, straight between class rows.

        Args:
            start, end: (seed, label or None) each; labels need a `FoldedGenerator`.
            fractions: (N,) floats in [0, 1]; 0 is the start and 1 the end, exactly.
            truncation: float > 0, largest absolute entry of the two latents.

        Returns:
            (N, H, W, C) uint8, or what `outputs` gives first.

        Raises:
            ValueError: A label is out of range, or there are labels without classes or the reverse.
        """
        fractions = tf.constant(fractions, tf.float32)
        seeds, labels = zip(start, end)
        if (labels[0] is None) != (labels[1] is None):
            raise ValueError(f"`start` and `end` must both have a label, or neither. Received: {start=}, {end=}.")
        rows = self._conditions(None if labels[0] is None else labels)

        def between(method, ends):
            return method(*(tf.repeat(ends[i : i + 1], len(fractions), axis=0) for i in (0, 1)), fractions).numpy()

        latents = between(interpolate_latents, _draw_latents(seeds, self.latent_dim, truncation))
        return self._run([latents] if rows is None else [latents, between(interpolate_rows, rows)])[0]

    def _conditions(self, labels):
        """What the network takes besides latents: class rows if it is folded, otherwise the labels."""
        if (labels is None) != (self.num_classes is None):
            raise ValueError(
                "`labels` must be given if and only if there are classes. "
                f"Received: {labels=}, and the generator has {self.num_classes or 'no'} classes."
            )
        if labels is None:
            return None
        labels = np.asarray(labels, np.int64)
        if labels.size and not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise ValueError(f"`labels` must be in 0 .. {self.num_classes - 1}. Received: {labels}.")
        return labels.astype(np.int32) if self._class_rows is None else self._class_rows[labels]

    def _run(self, arrays):
        count = len(arrays[0])
        starts = range(0, count, self.batch_size)
        if not starts:
            return (np.empty((0, *self.image_shape), np.uint8),)
        parts, hidden = [], not self._show_progress or len(starts) < _BAR_BATCHES
        with progress_bar(total=count, unit="img", desc="sampling", leave=False, disable=hidden) as bar:
            for start in starts:
                parts.append(self._step(*(array[start : start + self.batch_size] for array in arrays)))
                bar.update(len(parts[-1][0]))
        return tuple(None if output[0] is None else np.concatenate(output) for output in zip(*parts))


def _draw_latents(seeds, latent_dim, truncation=NO_TRUNCATION):
    """`draw_latents` of arrays: (N,) seeds and one truncation, or (N,) of them, to (N, D) float32."""
    seeds = np.asarray(seeds, np.int64)
    truncation = np.minimum(truncation, float(np.finfo(np.float32).max))  # infinity would make latents of NaN
    return _draw(seeds, np.broadcast_to(np.float32(truncation), seeds.shape), latent_dim).numpy()


def grid_seeds(rows, columns, num_classes):
    """Seeds and labels of a grid of samples, row by row, as `sagan sample` numbers them.

    Row r is class r and column c is seed c. Rows beyond the last class repeat the classes with the next seeds; without
    classes, the seeds run from row to row.

    Args:
        rows, columns: ints >= 1.
        num_classes: int, K, or None without classes.

    Returns:
        (seeds (rows * columns,) int64, labels (rows * columns,) int32 or None without classes).
    """
    row, column = np.divmod(np.arange(rows * columns), columns)
    seeds = row // (num_classes or 1) * columns + column
    return seeds, None if num_classes is None else np.int32(row % num_classes)


def count_classes(generator):
    """Counts the classes of a generator, a keras.Model, by its conditional batch normalizations; None without."""
    counts = {layer.num_classes for layer in generator.layers if isinstance(layer, ConditionalBatchNormalization)}
    return counts.pop() if counts else None
