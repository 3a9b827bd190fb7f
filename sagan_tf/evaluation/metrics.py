"""The metrics of two sets of features: names, values, errors and notes."""

from dataclasses import dataclass

import numpy as np

from sagan_tf.evaluation.distances import (
    INFINITY_POINTS,
    frechet_distance,
    frechet_distance_at_infinity,
    frechet_distance_of_moments,
    kernel_distance,
)
from sagan_tf.evaluation.metric_names import METRICS, TITLES
from sagan_tf.evaluation.precision_recall import manifold_metrics
from sagan_tf.files.hashing import sha256_of_parts

_KERNEL_BLOCK = 1000  # rows at most
_NEIGHBORS = {"precision_recall": 3, "density_coverage": 5}


@dataclass(frozen=True)
class MetricValue:
    """The value of a metric.

    Args:
        key: str, its name in a result.
        value: float.
        error: float, of the kind that the note names, or None.
        note: str, how to read the value.
        details: dict of JSON values, or None.
    """

    key: str
    value: float
    error: float | None = None
    note: str = ""
    details: dict | None = None

    def title(self, is_inception):
        """The title in a table: the published name only with Inception's features."""
        plain = self.key.replace("_", " ")
        return TITLES.get(self.key, (plain, plain))[0 if is_inception else 1]


def compute_metrics(generated, reference, names=METRICS, at_infinity=False, show_progress=True):
    """Computes the metrics of generated images against a data set.

    Args:
        generated: `FeatureSet`.
        reference: `FeatureSet`. Another program's statistics allow only the Fréchet distance.
        names: Some of `METRICS`.
        at_infinity: bool. Also extrapolate the Fréchet distance to infinitely many samples.
        show_progress: bool. Show progress bars.

    Returns:
        (list of `MetricValue`, dict of the metrics that cannot be computed -> reason).

    Raises:
        ValueError: The features have different dimensions.
    """
    values, left_out = [], {}
    for name in names:
        reason = _obstacle(name, generated, reference)
        if reason:
            left_out[name] = reason
        elif name == "fid":
            values.append(_frechet(generated, reference))
            if at_infinity and generated.count < 2 * INFINITY_POINTS:
                left_out["fid_at_infinity"] = f"there are fewer than {2 * INFINITY_POINTS} samples"
            elif at_infinity:
                values.append(_frechet_at_infinity(generated, reference))
        elif name == "kid":
            values.append(_kernel(generated, reference))
        elif name == "is":
            values += _scores(generated, reference)
        elif name == "intra_fid":
            values.append(_intra(generated, reference))
        elif name == "precision_recall" or (name == "density_coverage" and "precision_recall" not in names):
            # Both pairs of metrics come from the same distances.
            values += _manifolds(generated, reference, names, show_progress)
    return values, left_out


def _obstacle(name, generated, reference):
    """Why a metric cannot be computed; None if it can."""
    if name == "is":
        if generated.count < 10:
            return "there are fewer images than splits"
        return "the feature network has no class probabilities" if generated.score is None else None
    if name == "fid":  # the count of another program's statistics is 0, unknown
        return "there is only one image" if 1 in (generated.count, reference.count) else None
    if reference.features is None:
        return "the statistics hold no features of single images"
    if name == "kid" and min(len(generated.features), len(reference.features)) < 2:
        return "there is only one image"
    if name == "intra_fid":
        if generated.labels is None or reference.labels is None:
            return "there are no labels on both sides"
        return None if _common_classes(generated, reference) else "no class has two samples and two images"
    is_manifold = name in ("precision_recall", "density_coverage")
    if is_manifold and min(len(generated.features), len(reference.features)) <= _NEIGHBORS["density_coverage"]:
        return "there are too few images"
    return None


def _frechet(generated, reference):
    dimensions = len(generated.moments.mean)
    sizes = {"samples": generated.count, "images": reference.count}
    few = [f"{count:,} {name}" for name, count in sizes.items() if 0 < count < dimensions]
    note = f"biased upwards: {' and '.join(few)} for {dimensions:,} features" if few else ""
    value = frechet_distance_of_moments(generated.moments, reference.moments)
    return MetricValue("frechet_distance", value, None, note)


def _frechet_at_infinity(generated, reference):
    value, points = frechet_distance_at_infinity(generated.features, reference.moments)
    return MetricValue("frechet_distance_at_infinity", value, None, "extrapolated", {"points": points})


def _kernel(generated, reference):
    count = min(len(generated.features), len(reference.features))
    # Other features, another order: one for all would weigh the classes of sorted sets in the same wrong way each time.
    heads = [np.ascontiguousarray(each.features[:64]) for each in (generated, reference)]
    seed = int(sha256_of_parts(heads)[:16], 16)
    rng = np.random.default_rng(seed)
    sets = [_random_rows(each.features, count, rng) for each in (generated, reference)]
    value, error = kernel_distance(*sets, _KERNEL_BLOCK, seed)
    error = None if np.isnan(error) else error
    rows = count // -(-count // _KERNEL_BLOCK)
    return MetricValue("kernel_distance", value, error, f"unbiased, standard error; blocks of {rows:,}")


def _random_rows(rows, count, rng):
    # Not the first rows: of a set that comes class by class, they would be the first classes.
    return rows if len(rows) == count else rows[np.sort(rng.permutation(len(rows))[:count])]


def _scores(generated, reference):
    note = "standard deviation of 10 splits"
    values = [MetricValue("inception_score", *generated.score, note)]
    if reference.score is not None:
        values.append(MetricValue("inception_score_of_the_data", *reference.score, note))
    return values


def _intra(generated, reference):
    by_class, sizes = {}, []
    for label in _common_classes(generated, reference):
        sets = [np.asarray(each.features[each.labels == label]) for each in (generated, reference)]
        by_class[str(label)] = frechet_distance(*sets)
        sizes.append([len(features) for features in sets])
    samples, images = np.min(sizes, axis=0)
    note = f"mean of {len(by_class)} classes, at least {samples:,} samples and {images:,} images each"
    dimensions = len(generated.moments.mean)
    if min(samples, images) < dimensions:
        note += f"; biased upwards: fewer than {dimensions:,} features"
    value = float(np.mean(list(by_class.values())))
    return MetricValue("intra_frechet_distance", value, None, note, {"by_class": by_class})


def _common_classes(generated, reference):
    """Lists the labels with two rows or more on both sides."""
    counts = (np.unique(each.labels, return_counts=True) for each in (generated, reference))
    sets = [labels[count >= 2] for labels, count in counts]
    return np.intersect1d(*sets).tolist()


def _manifolds(generated, reference, names, show_progress):
    metrics = manifold_metrics(
        generated.features, reference.features, *_NEIGHBORS.values(), show_progress, reference.own_distances
    )
    samples, images = len(generated.features), len(reference.features)
    best = expected_coverage(samples, images, _NEIGHBORS["density_coverage"])
    added = {"coverage": f"; {best:.3f} is expected of samples like the data"}
    keys = {"precision_recall": ("precision", "recall"), "density_coverage": ("density", "coverage")}
    return [
        MetricValue(
            key, getattr(metrics, key), None,
            f"k = {_NEIGHBORS[name]}; {samples:,} samples, {images:,} images{added.get(key, '')}",
        )
        for name in keys
        if name in names
        for key in keys[name]
    ]  # fmt: skip


def expected_coverage(samples, images, neighbors):
    """Computes the coverage that samples of the distribution of the data itself have on average.

    An image is not covered if its k nearest neighbors among the other images and the samples are all images. Points of
    one distribution are exchangeable, so this is as likely as drawing k images first. Naeem et al. 2020,
    https://arxiv.org/abs/2002.09797, derive it for equal counts.

    Args:
        samples, images: ints >= 1.
        neighbors: int k < images.

    Returns:
        float in [0, 1].
    """
    rest = images - 1 - np.arange(neighbors)
    return float(1 - np.prod(rest / (rest + samples)))
