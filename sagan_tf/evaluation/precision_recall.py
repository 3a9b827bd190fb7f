"""Precision and recall, density and coverage, nearest neighbors: metrics from distances between single images.

Distances are Euclidean. They are computed block by block, so that memory grows with the sets and not with their
product, and in float64: |x|^2 + |y|^2 - 2 x . y cancels for rows close together and far from zero, and float64 resolves
all that differs in float32.

Symbols: N generated rows, M reference rows, D features.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from sagan_tf.evaluation.distances import check_features
from sagan_tf.utils.progress import progress_bar

_BLOCK_VALUES = 1 << 24  # distances in memory at a time: 128 MiB
_OWN = 11  # distances that `own_distances` gives of a row


@dataclass(frozen=True)
class ManifoldMetrics:
    """Overlap of two sets.

    Args:
        precision: float in [0, 1], share of generated rows inside the manifold of the reference.
        recall: float in [0, 1], share of reference rows inside the manifold of the generated ones.
        density: float >= 0, about 1 for equal distributions, and more if generated rows crowd in dense regions.
        coverage: float in [0, 1], share of reference rows with a generated row in their ball.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_metrics(
    features, reference, neighbors=3, coverage_neighbors=5, show_progress=False, reference_distances=None
):
    """Computes precision, recall, density and coverage of (N, D) features against a (M, D) reference.

    The manifold of a set is the union of balls around its rows; the radius is the distance to the k-th nearest other
    row.

    Args:
        features: (N, D), N > `neighbors`.
        reference: (M, D), M > `coverage_neighbors`.
        neighbors: int >= 1, k of precision and recall.
        coverage_neighbors: int >= `neighbors`, k of density and coverage.
        show_progress: bool. Show a progress bar.
        reference_distances: Result of `own_distances(reference)`, if known; saves a third of the time. One of too few
            columns is computed anew.

    Returns:
        ManifoldMetrics.

    Raises:
        ValueError: A number of neighbors is out of its range, the shapes do not match, or a value is not finite.

    Source: Kynkäänniemi et al. 2019, equations 1 and 2, https://arxiv.org/abs/1904.06991; Naeem et al. 2020, equations
        4 and 5, https://arxiv.org/abs/2002.09797.
    """
    if not 1 <= neighbors <= coverage_neighbors < len(reference) or not neighbors < len(features):
        raise ValueError(
            "`neighbors` and `coverage_neighbors` must be less than the number of rows, and the former at most the "
            f"latter. Received: {neighbors=}, {coverage_neighbors=}, {len(features)} and {len(reference)} rows."
        )
    features, reference = check_features(features, reference, convert=False, least=1)
    known = reference_distances is not None and reference_distances.shape[1] > coverage_neighbors
    blocks = len(_starts(len(features), len(reference))) + len(_starts(len(features), len(features)))
    blocks += 0 if known else len(_starts(len(reference), len(reference)))
    with progress_bar(total=blocks, desc="distances", unit="block", leave=False, disable=not show_progress) as bar:
        if not known:
            reference_distances = _smallest(reference, reference, coverage_neighbors + 1, bar)[0]
        # Column 0 is the distance of a row to itself.
        narrow, wide = (np.float64(reference_distances[:, k]) for k in (neighbors, coverage_neighbors))
        own = _smallest(features, features, neighbors + 1, bar)[0][:, neighbors]
        return _overlap(features, reference, narrow, wide, own, coverage_neighbors, bar)


def own_distances(rows, show_progress=False):
    """Computes the squared distances of each row to its nearest rows, itself included.

    Args:
        rows: (M, D), M >= 1.
        show_progress: bool. Show a progress bar.

    Returns:
        (M, min(11, M)) float64, ascending; column 0 is the row itself, 0 up to rounding.

    Raises:
        ValueError: `rows` is not (M, D), or a value is not finite.
    """
    rows, _ = check_features(rows, rows, convert=False, least=1)
    starts = _starts(len(rows), len(rows))
    with progress_bar(total=len(starts), desc="distances", unit="block", leave=False, disable=not show_progress) as bar:
        return _smallest(rows, rows, min(_OWN, len(rows)), bar)[0]


def _overlap(features, reference, narrow, wide, own, coverage_neighbors, bar):
    inside, counts = [], 0
    recalled, covered = np.zeros(len(reference), bool), np.zeros(len(reference), bool)
    reference = tf.constant(reference, tf.float64)
    for start in _starts(len(features), len(reference)):
        rows = slice(start, start + _block_rows(len(reference)))
        parts = _compare(tf.constant(features[rows], tf.float64), reference, narrow, wide, own[rows])
        precise, hits, recalls, covers = (part.numpy() for part in parts)
        inside.append(precise)
        counts += int(hits)
        recalled |= recalls
        covered |= covers
        bar.update(1)
    density = counts / (coverage_neighbors * len(features))
    precision = np.concatenate(inside).mean()
    return ManifoldMetrics(float(precision), float(recalled.mean()), float(density), float(covered.mean()))


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


def nearest_neighbors(queries, reference, count):
    """Finds the nearest rows of a reference.

    Args:
        queries: (N, D), N >= 1.
        reference: (M, D).
        count: int in 1 .. M, neighbors per query.

    Returns:
        (distances float64, indices int32), (N, count) each, nearest first.

    Raises:
        ValueError: `count` is out of range, the shapes do not match, or a value is not finite.
    """
    if not 1 <= count <= len(reference):
        raise ValueError(f"`count` must be in 1 .. {len(reference)}. Received: {count=}.")
    queries, reference = check_features(queries, reference, convert=False, least=1)
    squares, indices = _smallest(queries, reference, count)
    return np.sqrt(squares), indices


def _block_rows(columns):
    return max(1, _BLOCK_VALUES // columns)


def _starts(rows, columns):
    return range(0, rows, _block_rows(columns))


def _smallest(queries, reference, count, bar=None):
    """The smallest squared distances of each query, ascending, and their indices: (N, count) float64, int32."""
    reference, blocks = tf.constant(reference, tf.float64), []
    for start in _starts(len(queries), len(reference)):
        block = tf.constant(queries[start : start + _block_rows(len(reference))], tf.float64)
        blocks.append([part.numpy() for part in _smallest_of_block(block, reference, count)])
        if bar is not None:
            bar.update(1)
    return [np.concatenate(parts) for parts in zip(*blocks)]


@tf.function(reduce_retracing=True)
def _smallest_of_block(block, reference, count):
    negative, indices = tf.math.top_k(-_squared_distances(block, reference), count)
    return -negative, indices


def _squared_distances(first, second):
    squares = [tf.reduce_sum(tf.square(rows), axis=1) for rows in (first, second)]
    product = tf.matmul(first, second, transpose_b=True)
    return tf.maximum(squares[0][:, None] + squares[1][None] - 2.0 * product, 0.0)
