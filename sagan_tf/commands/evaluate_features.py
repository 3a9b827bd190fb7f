"""What an evaluation measures by features: the samples of a run, which workers share, or the images of a folder."""

import dataclasses
import functools

from sagan_tf.commands.evaluate_data import reference_features
from sagan_tf.commands.evaluate_images import save_feature_neighbors, save_truncation_curve
from sagan_tf.commands.evaluate_names import beside
from sagan_tf.evaluation.metric_names import CURVE_METRICS, METRICS
from sagan_tf.evaluation.shards import WorkerShares
from sagan_tf.files.locks import exclusive
from sagan_tf.runs.data_check import has_classes_of
from sagan_tf.training.workers import read_worker

_WORKERS_MINUTES = 30  # For which the chief waits for another worker's share.


@dataclasses.dataclass
class MeasuredFeatures:
    """What an evaluation measures by features; without a feature network nothing but why.

    Args:
        reference: dict of JSON values that identify the reference.
        metrics, left_out, curve: As in `Result`.
        files: Paths of images that were written.
        removals: Functions without arguments that remove what was collected, to call once the result is written.
    """

    reference: dict
    metrics: list = dataclasses.field(default_factory=list)
    left_out: dict = dataclasses.field(default_factory=dict)
    files: list = dataclasses.field(default_factory=list)
    removals: list = dataclasses.field(default_factory=list)
    curve: list = dataclasses.field(default_factory=list)


def measure_samples(run, evaluator, reader, subject, stem, source, options):
    """Measures the samples of a run, and saves nearest neighbors.

    Args:
        run: `Run`.
        evaluator: `Evaluator` with a feature network.
        reader: `SampleReader` of the samples.
        subject: dict of JSON values that identify the generator.
        stem: pathlib.Path of the result, without suffix.
        source: `data.sources.Source` of the reference; None for a file of statistics.
        options: `EvaluateOptions`.

    Returns:
        `MeasuredFeatures`; None on workers but the chief.
    """
    worker = read_worker()
    reference = reference_features(evaluator, source, options) if worker.is_chief else None
    with _lock(stem, worker.index):
        generated, removals = _collect_samples(evaluator, reader.sampler, reader.samples, subject, stem, worker)
        curve, more_removals = _measure_curve(evaluator, reader, subject, stem, generated, reference, options)
        removals += more_removals
    if generated is None:
        return None
    names = reference.about.get("class_names")
    if len(names or ()) != (reader.num_classes or 0) or not has_classes_of(run, names):
        generated = dataclasses.replace(generated, labels=None)  # the labels of other classes mean nothing here
    metrics, left_out = _feature_metrics(evaluator, generated, reference, options)
    if options.truncation_curve and not curve:
        left_out["truncation_curve"] = left_out[curve_metric_names(options)[0]]
    files = []
    if source is not None and reference.features is not None:
        files = [save_feature_neighbors(generated, reference, reader, source, beside(stem, "_neighbors.png"))]
    path = beside(stem, "_truncation_curve.png")
    if curve:
        files.append(save_truncation_curve(curve, evaluator.is_inception, reader.count, path))
    return MeasuredFeatures(reference.about, metrics, left_out, files, removals, curve)


def measure_images(images, evaluator, about, stem, source, options):
    """Measures the images of a folder.

    Args:
        images: `data.sources.Source` of the folder.
        about: dict of JSON values that identify the images.
        evaluator, stem, source, options: As in `measure_samples`.

    Returns:
        `MeasuredFeatures`.
    """
    reference = reference_features(evaluator, source, options)
    with _lock(stem):
        measured, collector = evaluator.collect_images(images, about, beside(stem, ".collecting"))
    if about["class_names"] != reference.about.get("class_names"):
        measured = dataclasses.replace(measured, labels=None)  # the labels of other classes mean nothing here
    metrics, left_out = _feature_metrics(evaluator, measured, reference, options)
    return MeasuredFeatures(reference.about, metrics, left_out, removals=[collector.close])


def _measure_curve(evaluator, reader, subject, stem, generated, reference, options):
    """Measures the samples at each truncation: (list of (truncation, metrics), functions that clean up)."""
    worker, curve, removals, own = read_worker(), [], [], options.truncation
    data = reference and dataclasses.replace(reference, score=None)  # it is in the metrics of the evaluation
    for truncation in sorted({*options.truncation_curve, own} if options.truncation_curve else ()):
        features = generated
        if truncation != own:
            samples = dataclasses.replace(reader.samples, truncation=truncation)
            path = beside(stem, f"-at_{truncation:g}")
            features, more = _collect_samples(evaluator, reader.sampler, samples, subject, path, worker)
            removals += more
        metrics = evaluator.metrics(features, data, curve_metric_names(options))[0] if worker.is_chief else ()
        if metrics:
            curve.append((truncation, metrics))
    return curve, removals


def _collect_samples(evaluator, sampler, samples, subject, stem, worker):
    """Collects this worker's share; returns all features on the chief, otherwise None, and functions that clean up."""
    shares = WorkerShares(stem, worker)
    features, collector = evaluator.collect_samples(sampler, samples, subject, shares.folder, shares.share)
    features = shares.gather(features, _WORKERS_MINUTES)
    if worker.is_chief:
        return features, [collector.close, *(functools.partial(path.unlink, missing_ok=True) for path in shares.paths)]
    collector.close()
    print(f"This worker's share of the samples is complete; the chief continues with it: {shares.paths[worker.index]}")
    return None, []


def _lock(stem, worker=0):
    """Locks what is collected for a result, and makes its folder."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    busy = f"{stem}: another process measures the same. Wait for it, or choose another --out."
    return exclusive(beside(stem, f".{worker}.lock"), error=busy, remove=True)


def _feature_metrics(evaluator, measured, reference, options):
    return evaluator.metrics(measured, reference, feature_metric_names(options), options.at_infinity)


def feature_metric_names(options):
    """The metrics of features that the options ask for."""
    return [name for name in METRICS if options.metrics is None or name in options.metrics]


def curve_metric_names(options):
    """Those of them that a truncation curve shows."""
    return [name for name in feature_metric_names(options) if name in CURVE_METRICS]
