"""Collects features of many images in bounded memory; a restarted process continues where it stopped."""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sagan_tf.evaluation.moments import Moments
from sagan_tf.evaluation.scores import ScoreSums
from sagan_tf.files.atomic import atomic_write
from sagan_tf.files.untrusted import read_arrays

_SAVE_SECONDS = 20.0
_SPLITS = 10  # of the Inception score
_ROWS_PER_UPDATE = 1024  # Adding a few rows to a covariance costs as much as adding many.


@dataclass(frozen=True)
class FeatureSet:
    """Features of N images and what is computed from them.

    Args:
        about: dict of JSON values, how they were made.
        count: int, N.
        moments: `Moments` of all N.
        features: (n, D) float32 of the images whose features were kept, or None.
        indices: (n,) int64, the numbers of these images, or None.
        labels: (n,) int32, or None.
        score: (mean, standard deviation) of the Inception score of all N, or None.
        sums: `ScoreSums` of the score, or None.
        own_distances: (n, k) float64 of `precision_recall.own_distances(features)`, or None.
    """

    about: dict
    count: int
    moments: Moments
    features: np.ndarray | None = None
    indices: np.ndarray | None = None
    labels: np.ndarray | None = None
    score: tuple[float, float] | None = None
    sums: ScoreSums | None = None
    own_distances: np.ndarray | None = None


class Collector:
    """Collects features batch by batch and saves its state every 20 s.

    Args:
        folder: Path of the folder for the state, which `close` removes. If it holds the state of the same work, that
            work continues; other work is deleted.
        about: dict of JSON values, how the features are made.
        count: int, N, images of all workers.
        dimensions: int, D.
        num_classes: int, K, or None without class probabilities.
        keep: int, images whose features are kept at most; a random choice if there are more.
        share: (index, count) of the worker. Each worker collects a contiguous share of the N.

    Attributes:
        first, end: ints, the range of this worker's share.
        done: int, images of the share so far.
    """

    def __init__(self, folder, about, count, dimensions, num_classes, keep, share=(0, 1)):
        self._folder, self._about = Path(folder), about
        self._identity = {**about, "collected": [count, dimensions, num_classes, keep, _SPLITS, *share]}
        self.first, self.end = (count * (share[0] + i) // share[1] for i in (0, 1))
        self._count = self.end - self.first
        kept = np.sort(np.random.default_rng(0).permutation(count)[:keep]).astype(np.int64)
        self._indices = kept[(kept >= self.first) & (kept < self.end)] - self.first
        self._moments = Moments(dimensions)
        # Random splits: images come class by class from folders, and a split of one class would have the lowest score.
        parts = (np.random.default_rng(1).permutation(count) % _SPLITS)[self.first : self.end]
        self._sums = None if num_classes is None or count < _SPLITS else ScoreSums(parts, _SPLITS, num_classes)
        self._labels = None
        self._pending, self.done, self._saved_at = [], 0, time.monotonic()
        self._is_whole = True  # False while sums are being updated: a signal may come within
        shape = (len(self._indices), dimensions)
        if not self._resume(shape):
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            self._features = np.lib.format.open_memmap(self._features_path, "w+", np.float32, shape)

    @property
    def _features_path(self):
        return self._folder / "features.npy"

    @property
    def _state_path(self):
        return self._folder / "state.npz"

    def add(self, features, probabilities=None, labels=None):
        """Adds the next images.

        Args:
            features: (n, D) float32.
            probabilities: (n, K), each row sums to 1; None without.
            labels: (n,) ints, or None.

        Raises:
            ValueError: There are more images than the share has, or a feature is not finite.
        """
        end = self.done + len(features)
        if end > self._count:
            raise ValueError(f"{self._count} images are expected. Received: {end}.")
        self._is_whole = False
        first, last = np.searchsorted(self._indices, [self.done, end])
        kept = self._indices[first:last] - self.done
        self._features[first:last] = features[kept]
        if labels is not None:
            if self._labels is None:
                self._labels = np.full(len(self._indices), -1, np.int32)
            self._labels[first:last] = np.asarray(labels)[kept]
        if self._sums is not None and probabilities is not None:
            self._sums.add(probabilities)
        self._pending.append(features)
        self.done = end
        if sum(map(len, self._pending)) >= _ROWS_PER_UPDATE:
            self._update_moments()
        self._is_whole = True
        if time.monotonic() - self._saved_at > _SAVE_SECONDS:
            self.save()

    def save(self):
        """Saves the state from which a later process continues; after an interrupted update the last one stays."""
        if not self._is_whole:
            return
        self._is_whole = False
        self._update_moments()
        self._features.flush()
        state = {"about": json.dumps(self._identity), "done": self.done, **self._moments.arrays()}
        if self._sums is not None:
            state |= self._sums.arrays()
        if self._labels is not None:
            state["labels"] = self._labels
        with atomic_write(self._state_path) as temporary_path:
            np.savez(temporary_path, **state)
        self._is_whole, self._saved_at = True, time.monotonic()

    def finish(self):
        """Returns the `FeatureSet` of the share, whose features stay in the folder until `close`.

        Raises ValueError if images of the share are missing.
        """
        if self.done != self._count:
            raise ValueError(f"{self._count} images are expected. Received: {self.done}.")
        self._update_moments()
        scored = self._sums is not None and self._sums.sizes.sum() == self._count
        return FeatureSet(
            about=self._about,
            count=self._count,
            moments=self._moments,
            features=self._features,
            indices=self._indices + self.first,
            labels=self._labels,
            score=self._sums.score() if scored and (self._sums.sizes > 0).all() else None,
            sums=self._sums if scored else None,
        )

    def close(self, keep_saved=False):
        """Removes the folder; `keep_saved` leaves one that holds a state from which a later process continues."""
        if not (keep_saved and self._state_path.is_file()):
            shutil.rmtree(self._folder, ignore_errors=True)

    def _update_moments(self):
        if self._pending:
            self._moments.add(np.concatenate(self._pending))
            self._pending = []

    def _resume(self, shape):
        try:
            state = read_arrays(self._state_path)
            if json.loads(str(state["about"])) != json.loads(json.dumps(self._identity)):
                return False
            if self._features_path.is_symlink():
                return False  # writing would change another file
            features = np.lib.format.open_memmap(self._features_path, "r+")
            if features.shape != shape:
                return False
            done, moments = int(state["done"]), Moments.from_arrays(state)
            if self._sums is not None:
                self._sums.restore(state)
        except Exception:  # Damaged bytes make NumPy, zip and JSON raise anything; the work starts again.
            return False
        self.done, self._moments, self._features, self._labels = done, moments, features, state.get("labels")
        return True
