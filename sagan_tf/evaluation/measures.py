"""All figures that two sets of features give, each with its name, its error and what is to be known of it."""

from dataclasses import dataclass

import numpy as np

from sagan_tf.evaluation.distances import frechet_distance, frechet_distance_of_moments, kernel_distance
from sagan_tf.evaluation.infinity import frechet_distance_at_infinity
from sagan_tf.evaluation.manifolds import manifold_measures

# Name on the command line -> what is computed. Those of the second group look at pictures instead of features.
METRICS = ("fid", "kid", "is", "intra_fid", "precision_recall", "density_coverage")
PICTURE_METRICS = ("ms_ssim", "rule")
_MANIFOLDS = ("precision_recall", "density_coverage")

# Key in the result -> (title with Inception's features, with others').
TITLES = {
    "frechet_distance": ("FID", "Fréchet distance"),
    "frechet_distance_at_infinity": ("FID at infinity", "Fréchet distance at infinity"),
    "kernel_distance": ("KID", "kernel distance"),
    "inception_score": ("Inception Score", "classifier score"),
    "inception_score_of_the_data": ("Inception Score of the data", "classifier score of the data"),
    "ms_ssim_within_classes": ("MS-SSIM within classes",) * 2,
    "ms_ssim_of_the_data": ("MS-SSIM of the data",) * 2,
    "intra_frechet_distance": ("intra-FID", "intra-class Fréchet distance"),
}


@dataclass(frozen=True)
class Figure:
    """A number and how it is to be read.

    Args:
        key: str, its name in a result.
        value: float.
        error: float, of the kind that the note tells; None: unknown.
        note: str, what is to be known.
        more: dict of JSON values, or None.
    """

    key: str
    value: float
    error: float | None = None
    note: str = ""
    more: dict | None = None

    def title(self, is_inception):
        """What it is called: by the published name only with Inception's features."""
        plain = self.key.replace("_", " ")
        return TITLES.get(self.key, (plain, plain))[0 if is_inception else 1]


def measure(generated, reference, wanted=METRICS, at_infinity=False, neighbours=3, coverage_neighbours=5,
            show_progress=True):
    """Measures how far generated pictures are from a data set.

    Args:
        generated: `FeatureSet`.
        reference: `FeatureSet`; of another program's statistics the Fréchet distance alone can be told.
        wanted: Some of `METRICS`.
        at_infinity: Extrapolate the Fréchet distance to infinitely many samples too.
        neighbours, coverage_neighbours: ints, as for `manifold_measures`.
        show_progress: Draw bars.

    Returns:
        (list of `Figure`, dict of the metrics that cannot be told -> reason).
    """
    figures, left_out = [], {}
    for name in wanted:
        reason = _impossible(name, generated, reference, coverage_neighbours)
        if reason:
            left_out[name] = reason
        elif name == "density_coverage" and "precision_recall" in wanted:
            continue  # both come of the same distances
        elif name == "fid":
            figures += _frechet(generated, reference, at_infinity)
        elif name == "kid":
            figures.append(_kernel(generated, reference))
        elif name == "is":
            figures += _scores(generated, reference)
        elif name == "intra_fid":
            figures.append(_intra(generated, reference))
        else:
            found = manifold_measures(
                generated.features, reference.features, neighbours, coverage_neighbours, show_progress,
                reference.own_distances,
            )
            figures += _manifolds(found, wanted, neighbours, coverage_neighbours, generated, reference)
    return figures, left_out


def _impossible(name, generated, reference, coverage_neighbours):
    if name == "is":
        few = "there are fewer pictures than splits" if generated.count < 10 else None
        return few or ("the features tell no class probabilities" if generated.score is None else None)
    if name == "fid":
        return None
    if reference.features is None:
        return "the statistics hold no features of single pictures"
    if name == "intra_fid" and (generated.labels is None or reference.labels is None):
        return "there are no labels on both sides"
    if name in _MANIFOLDS and min(len(generated.features), len(reference.features)) <= coverage_neighbours:
        return "there are too few pictures"
    return None


def _frechet(generated, reference, at_infinity):
    dimensions = len(generated.moments.mean)
    sizes = {"samples": generated.count, "pictures": reference.count}
    few = [f"{count:,} {name}" for name, count in sizes.items() if 0 < count < dimensions]
    note = f"biased upwards: {' and '.join(few)} for {dimensions:,} features" if few else ""
    value = frechet_distance_of_moments(generated.moments, reference.moments)
    figures = [Figure("frechet_distance", value, None, note)]
    if at_infinity:
        value, points = frechet_distance_at_infinity(generated.features, reference.moments)
        figures.append(Figure("frechet_distance_at_infinity", value, None, "extrapolated", {"points": points}))
    return figures


def _kernel(generated, reference):
    rng = np.random.default_rng(0)
    # Blocks are to be alike, and data sets come class by class.
    mixed = reference.features[rng.permutation(len(reference.features))]
    fewer = min(len(generated.features), len(mixed))
    value, error = kernel_distance(generated.features[:fewer], mixed[:fewer])
    error = None if np.isnan(error) else error
    return Figure("kernel_distance", value, error, f"unbiased, standard error; blocks of {min(1000, fewer):,}")


def _scores(generated, reference):
    note = "standard deviation of 10 splits"
    figures = [Figure("inception_score", *generated.score, note)]
    if reference.score is not None:
        figures.append(Figure("inception_score_of_the_data", *reference.score, note))
    return figures


def _intra(generated, reference):
    shared = np.intersect1d(generated.labels, reference.labels)
    by_class = {}
    for label in shared:
        sets = [np.asarray(one.features[one.labels == label]) for one in (generated, reference)]
        if min(map(len, sets)) >= 2:
            by_class[int(label)] = frechet_distance(*sets), *map(len, sets)
    smallest = [min(counts) for counts in zip(*(counts for _, *counts in by_class.values()))]
    value = float(np.mean([distance for distance, *_ in by_class.values()])) if by_class else float("nan")
    note = f"mean of {len(by_class)} classes, at least {smallest[0]:,} samples and {smallest[1]:,} pictures each"
    dimensions = len(generated.moments.mean)
    if min(smallest) < dimensions:
        note += f"; biased upwards: fewer than {dimensions:,} features"
    return Figure("intra_frechet_distance", value, None, note,
                  {"by_class": {str(label): distance for label, (distance, *_) in by_class.items()}})


def _manifolds(found, wanted, neighbours, coverage_neighbours, generated, reference):
    sizes = f"{len(generated.features):,} samples, {len(reference.features):,} pictures"
    names = {"precision_recall": (("precision", "recall"), neighbours),
             "density_coverage": (("density", "coverage"), coverage_neighbours)}
    return [
        Figure(key, getattr(found, key), None, f"k = {k}; {sizes}")
        for name, (keys, k) in names.items() if name in wanted for key in keys
    ]
