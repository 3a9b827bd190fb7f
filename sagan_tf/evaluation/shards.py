"""Shares of a feature collection: each worker writes its share to a file, and the chief merges them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from sagan_tf.evaluation.collector import FeatureSet
from sagan_tf.evaluation.moments import Moments
from sagan_tf.evaluation.scores import ScoreSums
from sagan_tf.files.atomic import atomic_write, remove_temporary_files
from sagan_tf.files.shared_work import wait_for_workers
from sagan_tf.files.untrusted import read_arrays
from sagan_tf.utils.progress import progress_bar


class WorkerShares:
    """The shares of all workers in one collection of features.

    Args:
        stem: Path of the collection without suffix, on a disk that all workers see.
        worker: `Worker`.

    Attributes:
        share: (index, count) of this worker.
        folder: pathlib.Path where this worker collects its features.
        paths: pathlib.Paths of the files of all workers, in their order; one worker alone writes none.
    """

    def __init__(self, stem, worker):
        self._worker, self.share = worker, (worker.index, worker.count)
        self.paths = [Path(f"{stem}.share_{i + 1}_of_{worker.count}.npz") for i in range(worker.count)]
        self.folder = Path(f"{stem if worker.count == 1 else self.paths[worker.index]}.collecting")

    def gather(self, features, minutes, barrier=lambda: None):
        """Brings the shares together on the chief.

        Args:
            features: `FeatureSet` of this worker's share.
            minutes: float, how long the chief waits for a share.
            barrier: Function that returns when all workers have called it. None of them may then remove its file before
                the chief has read it; without one, workers come and go at any time.

        Returns:
            `FeatureSet` of all workers on the chief, otherwise None.

        Raises:
            UserError: A share did not come.
        """
        worker = self._worker
        if worker.count == 1:
            return features
        if not worker.is_chief:
            save_shard(features, self.paths[worker.index])
        barrier()
        others = wait_for_shards(self.paths[1:], features.about, minutes) if worker.is_chief else None
        barrier()
        return None if others is None else merge_shards([features, *others])


def save_shard(shard, path):
    """Writes the `FeatureSet` of a worker's share, atomically."""
    arrays = {
        "about": json.dumps(shard.about),
        "count": shard.count,
        "features": shard.features,
        "indices": shard.indices,
        **shard.moments.arrays(),
    }
    if shard.labels is not None:
        arrays["labels"] = shard.labels
    if shard.sums is not None:
        arrays |= shard.sums.arrays()
    path = Path(path)
    remove_temporary_files(path.parent, [path.name])  # no other process writes this worker's share
    with atomic_write(path) as temporary_path:
        np.savez(temporary_path, **arrays)


def read_shard(path, about):
    """Reads the `FeatureSet` of a share; None if there is no such file yet, or it is of other work than `about`."""
    try:
        arrays = read_arrays(path)
        if json.loads(str(arrays["about"])) != json.loads(json.dumps(about)):
            return None
        return FeatureSet(
            about=about,
            count=int(arrays["count"]),
            moments=Moments.from_arrays(arrays),
            features=arrays["features"],
            indices=arrays["indices"],
            labels=arrays.get("labels"),
            sums=ScoreSums.from_arrays(arrays) if "totals" in arrays else None,
        )
    except Exception:  # No file, or damaged bytes, which make NumPy, zip and JSON raise anything.
        return None


def merge_shards(shards):
    """Merges the shares of all workers, in order, into the `FeatureSet` that one worker would have collected."""
    moments = Moments(len(shards[0].moments.mean))
    for shard in shards:
        moments.merge(shard.moments)
    arrays = {name: np.concatenate([getattr(shard, name) for shard in shards]) for name in ("features", "indices")}
    labels = None if shards[0].labels is None else np.concatenate([shard.labels for shard in shards])
    sums = None
    if all(shard.sums is not None for shard in shards):
        parts = [shard.sums.arrays() for shard in shards]
        sums = ScoreSums.from_arrays({name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]})
    score = sums.score() if sums is not None else None
    count = sum(shard.count for shard in shards)
    return replace(shards[0], count=count, moments=moments, labels=labels, sums=sums, score=score, **arrays)


def wait_for_shards(paths, about, minutes):
    """Waits for the `FeatureSet`s of other workers, in the order of `paths`; UserError after `minutes` without one."""
    shards = {}

    def count():
        for path in paths:
            if path not in shards and (shard := read_shard(path, about)) is not None:
                shards[path] = shard
        return len(shards)

    def missing(_, minutes):
        names = ", ".join(path.name for path in paths if path not in shards)
        return (
            f"No other worker's share came for {minutes:g} minutes; missing: {names}. Start the missing workers again: "
            "they continue where they stopped."
        )

    with progress_bar(total=len(paths), unit="worker", desc="waiting for the other workers") as bar:
        wait_for_workers(count, len(paths).__eq__, minutes, missing, lambda done: bar.update(done - bar.n))
    return [shards[path] for path in paths]
