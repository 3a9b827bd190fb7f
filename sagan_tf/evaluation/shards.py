"""Sets of features that several workers collected, each its share, joined by files on the disk that they share."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from sagan_tf.evaluation.collecting import FeatureSet
from sagan_tf.evaluation.distances import ScoreSums
from sagan_tf.evaluation.moments import Moments
from sagan_tf.files.atomic import atomic_write, remove_temporary_files
from sagan_tf.files.shared_work import wait_for_workers
from sagan_tf.files.untrusted import read_arrays


def save_shard(found, path):
    """Writes what a worker collected, as one file that appears when it is complete.

    Args:
        found: `FeatureSet` of its share.
        path: Of the file.
    """
    moments, sums = found.moments, found.sums
    arrays = {"about": json.dumps(found.about), "count": found.count, "moments_count": moments.count,
              "mean": moments.mean, "scatter": moments.scatter, "features": found.features, "indices": found.indices}
    if found.labels is not None:
        arrays["labels"] = found.labels
    if sums is not None:
        arrays |= {"sizes": sums.sizes, "totals": sums.totals, "entropies": sums.entropies}
    path = Path(path)
    remove_temporary_files(path.parent, [path.name])  # no other process writes this worker's share
    with atomic_write(path) as temporary_path:
        np.savez(temporary_path, **arrays)


def read_shard(path, about):
    """Reads what another worker collected.

    Args:
        path: Of the file.
        about: dict of JSON values, what is being measured.

    Returns:
        FeatureSet; None while the file is not there, or of other work.
    """
    try:
        arrays = read_arrays(path)
        if json.loads(str(arrays["about"])) != json.loads(json.dumps(about)):
            return None
        moments = Moments(len(arrays["mean"]))
        moments.count, moments.mean = int(arrays["moments_count"]), arrays["mean"]
        moments.scatter = arrays["scatter"]
        sums = None
        if "totals" in arrays:
            sums = ScoreSums([], *arrays["totals"].shape)
            sums.sizes, sums.totals, sums.entropies = arrays["sizes"], arrays["totals"], arrays["entropies"]
        return FeatureSet(about, int(arrays["count"]), moments, arrays["features"], arrays["indices"],
                          arrays.get("labels"), None, sums)
    except Exception:  # no file yet, or damaged bytes, which make NumPy, zip and JSON raise anything
        return None


def join(shards):
    """Joins the shares of all workers, in their order.

    Args:
        shards: list of `FeatureSet`s.

    Returns:
        FeatureSet, as of one that collected all.
    """
    moments = Moments(len(shards[0].moments.mean))
    for shard in shards:
        moments.merge(shard.moments)
    joined = {name: np.concatenate([getattr(shard, name) for shard in shards]) for name in ("features", "indices")}
    labels = None if shards[0].labels is None else np.concatenate([shard.labels for shard in shards])
    sums = None
    if all(shard.sums is not None for shard in shards):
        sums = ScoreSums([], *shards[0].sums.totals.shape)
        for name in ("sizes", "totals", "entropies"):
            setattr(sums, name, np.sum([getattr(shard.sums, name) for shard in shards], axis=0))
    score = sums.score() if sums is not None else None
    count = sum(shard.count for shard in shards)
    return replace(shards[0], count=count, moments=moments, labels=labels, sums=sums, score=score, **joined)


def wait_for_shards(paths, about, minutes):
    """Waits for the shares of the other workers.

    Args:
        paths: pathlib.Paths of their files.
        about: dict, as for `read_shard`.
        minutes: float, how long from the last arrival on.

    Returns:
        list of `FeatureSet`s in the order of the paths.

    Raises:
        UserError: A share did not come.
    """
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

    with tqdm(total=len(paths), unit="worker", desc="waiting for the other workers") as bar:
        wait_for_workers(count, len(paths).__eq__, minutes, missing, lambda done: bar.update(done - bar.n))
    return [shards[path] for path in paths]
