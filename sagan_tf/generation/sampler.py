"""Pictures of a generator by seed and class; knows nothing of files and run folders."""

import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from sagan_tf.generation.folding import as_folded
from sagan_tf.generation.latents import draw_latents, interpolate_latents, interpolate_rows
from sagan_tf.generation.pixels import to_levels

WHOLE_DISTRIBUTION = 6.0  # Truncation that leaves the normal distribution as it is, see `draw_latents`.
_SLOW = 4  # Batches from which on a bar is worth its line.


class Painter:
    """Paints what a generator makes of seeds and classes.

    The latent of a seed is that of the exported model's `sample`, so that a seed is the same picture here and there. It
    is the same in every batch: batches are filled up to one size, so that the same kernels run.

    Symbols: N pictures, S image size in px, C image channels, D latent dimensions, R size of a class row.

    Args:
        generator: keras.Model of `build_generator`, or `FoldedGenerator`.
        batch_size: int >= 1, pictures painted at a time.
        show_progress: Draw a bar for work of several batches.

    Attributes:
        num_classes: int, or None.
        latent_dim: int, D.
        image_shape: (S, S, C).
    """

    def __init__(self, generator, batch_size=32, show_progress=True):
        self._folded = as_folded(generator)
        self.batch_size, self.show_progress = batch_size, show_progress
        self.num_classes, self.latent_dim = self._folded.num_classes, self._folded.latent_dim
        self.image_shape = self._folded.image_shape
        body = self._folded.body
        self._body = tf.function(
            lambda *inputs: body(list(inputs) if len(inputs) > 1 else inputs[0])["image"], autograph=False
        )
        self._draw = tf.function(lambda seed, t: draw_latents(seed, t, self.latent_dim), reduce_retracing=True)

    def latents(self, seeds, truncation=WHOLE_DISTRIBUTION):
        """Draws the latents of seeds.

        Args:
            seeds: (N,) ints of 64 bits.
            truncation: float > 0, or (N,) of them: largest absolute value of an entry.

        Returns:
            (N, D) float32.

        Source: `export.sampling.draw_latents`.
        """
        seeds = np.asarray(seeds, np.int64)
        return self._draw(seeds, np.broadcast_to(np.float32(truncation), seeds.shape)).numpy()

    def rows(self, labels):
        """Looks up the class rows, between which one can go.

        Args:
            labels: (N,) ints in 0 .. K-1; None without classes.

        Returns:
            (N, R) float32, or None.

        Raises:
            ValueError: A label is out of range, or there are labels without classes or the reverse.
        """
        if (labels is None) != (self.num_classes is None):
            raise ValueError(
                f"`labels` must be given where there are classes. Received: {labels=}, {self.num_classes=}."
            )
        if labels is None:
            return None
        labels = np.asarray(labels, np.int64)
        if labels.size and not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise ValueError(f"`labels` must be in 0 .. {self.num_classes - 1}. Received: {labels}.")
        return np.asarray(self._folded.class_rows)[labels]

    def sample(self, seeds, labels=None, truncation=WHOLE_DISTRIBUTION):
        """Paints seeds.

        Args:
            seeds: (N,) ints of 64 bits.
            labels: (N,) ints, or None without classes.
            truncation: As for `latents`.

        Returns:
            (N, S, S, C) uint8.
        """
        return self.paint(self.latents(seeds, truncation), self.rows(labels))

    def between(self, start, end, fractions):
        """Paints what lies between two pictures: on the great circle of the latents, straight between class rows.

        Args:
            start, end: (seed, label or None) each.
            fractions: (N,) floats in [0, 1]; 0 is the start and 1 the end, exactly.

        Returns:
            (N, S, S, C) uint8.

        Source: as the exported model's `interpolate`.
        """
        fractions = np.asarray(fractions, np.float32)
        ends = []
        for way, get in ((interpolate_latents, self.latents), (interpolate_rows, self.rows)):
            first, last = ((start[0], end[0]), (start[1], end[1]))[way is interpolate_rows]
            if first is None:
                ends.append(None)
                continue
            pair = [np.repeat(get([value]), len(fractions), axis=0) for value in (first, last)]
            ends.append(way(*map(tf.constant, pair), tf.constant(fractions)).numpy())
        return self.paint(*ends)

    def paint(self, latent, rows=None):
        """Paints latents.

        Args:
            latent: (N, D) float32.
            rows: (N, R) float32, or None without classes.

        Returns:
            (N, S, S, C) uint8.
        """
        inputs = [np.asarray(latent, np.float32)] + ([] if rows is None else [np.asarray(rows, np.float32)])
        starts = range(0, len(latent), self.batch_size)
        painted = [np.empty((0, *self.image_shape), np.uint8)]
        with tqdm(total=len(latent), unit="img", desc="painting", leave=False,
                  disable=not self.show_progress or len(starts) < _SLOW) as bar:
            for start in starts:
                parts = [values[start : start + self.batch_size] for values in inputs]
                count = len(parts[0])
                missing = self.batch_size - count
                parts = [np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) for part in parts]
                painted.append(to_levels(self._body(*parts).numpy()[:count]))
                bar.update(count)
        return np.concatenate(painted)
