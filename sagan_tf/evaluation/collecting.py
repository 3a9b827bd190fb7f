"""Features of many pictures, in order, in bounded memory; what is done lies on the disk and is gone on with."""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sagan_tf.evaluation.distances import ScoreSums
from sagan_tf.evaluation.moments import Moments
from sagan_tf.files.atomic import atomic_write
from sagan_tf.files.untrusted import read_arrays

_SAVE_SECONDS = 20.0


@dataclass(frozen=True)
class FeatureSet:
    """What is known of the features of N pictures.

    Args:
        about: dict of JSON values, how they were made.
        count: int, N.
        moments: `Moments` of all N.
        features: (n, D) float32 of those that were kept, all of them where memory and disk allow; None: none were.
        indices: (n,) int64, their numbers; None as above.
        labels: (n,) int32, or None without labels.
        score: (mean, standard deviation) of the Inception score of all N, or None.
        sums: `ScoreSums` that the score comes of, or None.
        own_distances: (n, k) float32 of `manifolds.own_distances(features)`, or None.
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
    """Collects features batch by batch, and where it stands every 20 s.

    Args:
        folder: Where to collect; it is removed by `close`. What another process left of the same work is gone on with.
        about: dict of JSON values, how the features are made; other work found in the folder is thrown away.
        count: int, N, pictures in all.
        dimensions: int, D.
        num_classes: int, K, or None without class probabilities.
        keep: int, largest number of pictures whose own features are kept; of more, random ones are.
        splits: int, of the Inception score.
        share: (index, count) of the worker; of several, each collects its share of the N, picture by picture in order.

    Attributes:
        first, end: ints, the share.
        done: int, pictures of it so far.
    """

    def __init__(self, folder, about, count, dimensions, num_classes, keep, splits=10, share=(0, 1)):
        collected = [count, dimensions, num_classes, keep, splits, *share]
        self._folder, self._about = Path(folder), {**about, "collected": collected}
        self.first, self.end = (count * (share[0] + i) // share[1] for i in (0, 1))
        self._plain_about, self._count = about, self.end - self.first
        chosen = np.sort(np.random.default_rng(0).permutation(count)[:keep]).astype(np.int64)
        # Counted from the start of the share.
        self._indices = chosen[(chosen >= self.first) & (chosen < self.end)] - self.first
        self._moments = Moments(dimensions)
        # Folders come class by class, and a part with one class would score like a collapse.
        parts = (np.random.default_rng(1).permutation(count) % splits)[self.first : self.end]
        self._sums = None if num_classes is None or count < splits else ScoreSums(parts, splits, num_classes)
        self._labels = None
        self._pending, self.done, self._saved_at = [], 0, time.monotonic()
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
        """Takes the next pictures.

        Args:
            features: (n, D).
            probabilities: (n, K), or None.
            labels: (n,) ints, or None.

        Raises:
            ValueError: A feature is not finite, or there are more pictures than were to come.
        """
        end = self.done + len(features)
        if end > self._count:
            raise ValueError(f"There were to be {self._count} pictures. Received: {end}.")
        first, last = np.searchsorted(self._indices, [self.done, end])
        chosen = self._indices[first:last] - self.done
        self._features[first:last] = features[chosen]
        if labels is not None:
            if self._labels is None:
                self._labels = np.full(len(self._indices), -1, np.int32)
            self._labels[first:last] = np.asarray(labels)[chosen]
        if self._sums is not None and probabilities is not None:
            self._sums.add(probabilities)
        self._pending.append(features)
        self.done = end
        # A covariance of few rows costs as much as one of many.
        if sum(map(len, self._pending)) >= 1024:
            self._join_pending()
        if time.monotonic() - self._saved_at > _SAVE_SECONDS:
            self.save()

    def save(self):
        """Writes where it stands; a process that is killed loses what came since."""
        self._join_pending()
        self._features.flush()
        state = {"about": json.dumps(self._about), "done": self.done, "moments_count": self._moments.count,
                 "mean": self._moments.mean, "scatter": self._moments.scatter}
        if self._sums is not None:
            state |= {name: getattr(self._sums, name) for name in ("sizes", "totals", "entropies")}
        if self._labels is not None:
            state["labels"] = self._labels
        with atomic_write(self._state_path) as temporary_path:
            np.savez(temporary_path, **state)
        self._saved_at = time.monotonic()

    def finish(self):
        """Closes the collection.

        Returns:
            FeatureSet; its features lie in the folder, until `close`.

        Raises:
            ValueError: Pictures are missing.
        """
        if self.done != self._count:
            raise ValueError(f"There were to be {self._count} pictures. Received: {self.done}.")
        self._join_pending()
        scored = self._sums is not None and self._sums.sizes.sum() == self._count
        return FeatureSet(
            about=self._plain_about,
            count=self._count,
            moments=self._moments,
            features=self._features,
            indices=self._indices + self.first,
            labels=self._labels,
            score=self._sums.score() if scored and (self._sums.sizes > 0).all() else None,
            sums=self._sums if scored else None,
        )

    def close(self):
        """Removes the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _join_pending(self):
        if self._pending:
            self._moments.add(np.concatenate(self._pending))
            self._pending = []

    def _resume(self, shape):
        try:
            state = read_arrays(self._state_path)
            if json.loads(str(state["about"])) != json.loads(json.dumps(self._about)):
                return False
            features = np.lib.format.open_memmap(self._features_path, "r+")
            if features.shape != shape:
                return False
            self._take(state)
        except Exception:  # damaged bytes make NumPy, zip and JSON raise anything; the work begins anew
            return False
        self._features = features
        return True

    def _take(self, state):
        done, moments_count = int(state["done"]), int(state["moments_count"])
        mean, scatter = state["mean"], state["scatter"]
        if self._sums is not None:
            for name in ("sizes", "totals", "entropies"):
                setattr(self._sums, name, state[name])
        self._labels = state.get("labels")
        self._moments.count, self._moments.mean, self._moments.scatter = moments_count, mean, scatter
        self.done = done
