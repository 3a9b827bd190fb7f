"""Precision and recall, density and coverage, nearest neighbours: what distances between single pictures tell.

Distances are Euclidean, in float32, of rows whose common mean is taken away first; a block of rows at a time, so that
memory grows with the sets and not with their product.

Symbols: N generated rows, M reference rows, D features.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from sagan_tf.evaluation.distances import check_features

_BLOCK_VALUES = 1 << 25  # Distances held at a time: 128 MiB.


@dataclass(frozen=True)
class Manifolds:
    """How two sets overlap; floats.

    Args:
        precision: Share of generated rows inside the reference manifold, 0 to 1.
        recall: Share of reference rows inside the generated manifold, 0 to 1.
        density: How many reference balls a generated row lies in, over `coverage_neighbours`; about 1 where the
            distributions are equal, more where generated rows crowd in dense places.
        coverage: Share of reference balls that hold a generated row, 0 to 1.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_measures(
    features, reference, neighbours=3, coverage_neighbours=5, show_progress=False, of_reference=None
):
    """Measures precision, recall, density and coverage.

    The manifold of a set is the union of balls around its rows, each reaching to the row's k-th nearest neighbour in
    the set, itself not counted.

    Args:
        features: (N, D), N > neighbours.
        reference: (M, D), M > coverage_neighbours.
        neighbours: int >= 1, k of precision and recall.
        coverage_neighbours: int >= `neighbours`, k of density and coverage.
        show_progress: Draw a bar.
        of_reference: What `own_distances(reference)` gave, if it is known; it takes a third of the time.

    Returns:
        Manifolds.

    Raises:
        ValueError: The shapes do not fit, there are too few rows, or a value is not finite.

    Source: Kynkäänniemi et al. 2019, equations 1 and 2, https://arxiv.org/abs/1904.06991; Naeem et al. 2020, equations
        4 and 5, https://arxiv.org/abs/2002.09797.
    """
    if not 1 <= neighbours <= coverage_neighbours < len(reference) or not neighbours < len(features):
        raise ValueError(
            "`neighbours` and `coverage_neighbours` must be fewer than the rows, and the latter not fewer than the "
            f"former. Received: {neighbours=}, {coverage_neighbours=}, {len(features)} and {len(reference)} rows."
        )
    features, reference, mean = _checked(features, reference)
    known = of_reference is not None and of_reference.shape[1] > coverage_neighbours
    blocks = len(_starts(len(features), len(reference))) + len(_starts(len(features), len(features)))
    blocks += 0 if known else len(_starts(len(reference), len(reference)))
    with tqdm(total=blocks, desc="distances", unit="block", leave=False, disable=not show_progress) as bar:
        if not known:
            of_reference = _smallest(reference, reference, mean, coverage_neighbours + 1, bar)[0]
        # The smallest of a row's distances to its own set is the one to itself.
        narrow, wide = of_reference[:, neighbours], of_reference[:, coverage_neighbours]
        own = _smallest(features, features, mean, neighbours + 1, bar)[0][:, neighbours]
        return _overlap(features, reference, mean, narrow, wide, own, coverage_neighbours, bar)


def own_distances(rows, count=11, show_progress=False):
    """The smallest distances of each row to its own set, the one to itself among them.

    Args:
        rows: (M, D).
        count: int >= 1; fewer where there are fewer rows.
        show_progress: Draw a bar.

    Returns:
        (M, count) float32, squared, ascending.
    """
    rows, _, mean = _checked(rows, rows)
    starts = _starts(len(rows), len(rows))
    with tqdm(total=len(starts), desc="distances", unit="block", leave=False, disable=not show_progress) as bar:
        return _smallest(rows, rows, mean, min(count, len(rows)), bar)[0]


def _overlap(features, reference, mean, narrow, wide, own, coverage_neighbours, bar):
    inside, counts = [], 0
    recalled, covered = np.zeros(len(reference), bool), np.zeros(len(reference), bool)
    everything = tf.constant(reference) - mean
    for start in _starts(len(features), len(reference)):
        rows = slice(start, start + _rows(len(reference)))
        parts = _compare(tf.constant(features[rows]) - mean, everything, narrow, wide, own[rows])
        precise, hits, recalls, covers = (part.numpy() for part in parts)
        inside.append(precise)
        counts += int(hits)
        recalled |= recalls
        covered |= covers
        bar.update(1)
    density = counts / (coverage_neighbours * len(features))
    precision = np.concatenate(inside).mean()
    return Manifolds(float(precision), float(recalled.mean()), float(density), float(covered.mean()))


@tf.function(reduce_retracing=True)
def _compare(rows, reference, narrow, wide, own):
    distance = _squared_distances(rows, reference)
    in_wide = distance <= wide[None]
    return (
        tf.reduce_any(distance <= narrow[None], axis=1),
        tf.math.count_nonzero(in_wide, dtype=tf.int64),
        tf.reduce_any(distance <= own[:, None], axis=0),
        tf.reduce_any(in_wide, axis=0),
    )


def nearest_neighbours(queries, reference, count):
    """Finds the nearest rows of a set.

    Args:
        queries: (N, D).
        reference: (M, D).
        count: int in 1 .. M.

    Returns:
        (distances, indices): (N, count) float32 and int32, nearest first.

    Raises:
        ValueError: The shapes do not fit, there are too few rows, or a value is not finite.
    """
    if not 1 <= count <= len(reference):
        raise ValueError(f"`count` must be in 1 .. {len(reference)}. Received: {count=}.")
    queries, reference, mean = _checked(queries, reference)
    squares, indices = _smallest(queries, reference, mean, count)
    return np.sqrt(squares), indices


def _checked(features, reference):
    """Float32 rows, and the mean of the reference; it is taken away block by block, for a copy of a set is large."""
    checked = [np.asarray(rows, np.float32) for rows in (features, reference)]
    if any(rows.ndim != 2 for rows in checked) or checked[0].shape[1] != checked[1].shape[1] or not len(checked[0]):
        check_features(features, reference)
    if not all(np.isfinite(rows).all() for rows in checked):
        raise ValueError("`features` and `reference` must be finite. Received NaN or infinite values.")
    return *checked, checked[1].mean(axis=0, dtype=np.float64).astype(np.float32)


def _rows(columns):
    return max(1, _BLOCK_VALUES // columns)


def _starts(rows, columns):
    return range(0, rows, _rows(columns))


def _smallest(queries, reference, mean, count, bar=None):
    """The smallest squared distances of each query, ascending, and where they are: (N, count) float32, int32."""
    everything, found = tf.constant(reference) - mean, []
    for start in _starts(len(queries), len(reference)):
        block = tf.constant(queries[start : start + _rows(len(reference))]) - mean
        found.append([part.numpy() for part in _smallest_of_block(block, everything, count)])
        if bar is not None:
            bar.update(1)
    return [np.concatenate(parts) for parts in zip(*found)]


@tf.function(reduce_retracing=True)
def _smallest_of_block(block, reference, count):
    negative, indices = tf.math.top_k(-_squared_distances(block, reference), count)
    return -negative, indices


def _squared_distances(first, second):
    squares = [tf.reduce_sum(tf.square(rows), axis=1) for rows in (first, second)]
    product = tf.matmul(first, second, transpose_b=True)
    return tf.maximum(squares[0][:, None] + squares[1][None] - 2.0 * product, 0.0)
