"""`sagan evaluate`: measures a run's generator, or a folder of images."""

import dataclasses
import functools
import os
import time
from pathlib import Path

from sagan_tf.commands.evaluate_images import (
    ImageReader,
    SampleReader,
    image_metrics,
    save_class_image,
    save_feature_neighbours,
    save_pixel_neighbours,
    save_truncation_curve,
)
from sagan_tf.commands.evaluate_names import (
    describe_generator,
    features_name,
    folder_stem,
    refuse_run_options,
    run_stem,
)
from sagan_tf.commands.options import image_sides
from sagan_tf.data import embedded
from sagan_tf.data.fingerprint import portable_fingerprint
from sagan_tf.data.folders import list_images
from sagan_tf.data.image_files import UNREADABLE, open_image
from sagan_tf.data.options import DataOptions
from sagan_tf.data.prepared import is_prepared, prepared_shape, read_manifest, split_folder
from sagan_tf.data.sources import class_distribution, describe_skipped, open_source, translate_data_errors
from sagan_tf.errors import UserError
from sagan_tf.evaluation.evaluator import Evaluator, SampleSet
from sagan_tf.evaluation.features import open_features
from sagan_tf.evaluation.inception import InceptionUnavailable
from sagan_tf.evaluation.metric_names import CURVE_METRICS, IMAGE_METRICS, METRICS
from sagan_tf.evaluation.results import Result, to_json
from sagan_tf.evaluation.shards import gather_shards, shard_paths
from sagan_tf.evaluation.standing_statistics import set_standing_statistics
from sagan_tf.experiment.loading import class_names, restore_networks
from sagan_tf.files.atomic import write_text
from sagan_tf.files.hashing import sha256_of_parts
from sagan_tf.files.hub import is_hub_name
from sagan_tf.files.locks import exclusive
from sagan_tf.generation.folding import fold_generator
from sagan_tf.runs.data_check import check_data, has_classes_of
from sagan_tf.runs.environment import describe_environment
from sagan_tf.runs.folder import Run
from sagan_tf.runs.report import write_report
from sagan_tf.training.distribution import make_local_strategy, set_numerics
from sagan_tf.training.workers import read_worker

_WORKERS_MINUTES = 30  # For which the chief waits for another worker's share.
_LABELS = {"uniform": "drawn with equal probabilities", "data": "drawn as often as in the data"}


def evaluate(options):
    """Measures what `EvaluateOptions` name, by `evaluate_run` or `evaluate_folder`; results and errors are theirs.

    Raises:
        UserError: There is no such folder.
    """
    path, is_hub = Path(options.subject), is_hub_name(options.subject)
    if not is_hub and not path.is_dir():
        raise UserError(f"{path}: there is no such folder. Name a run folder, or a folder of images.")
    if not is_hub and not (path / "config.yaml").is_file():
        with translate_data_errors(path, options.reference):
            return evaluate_folder(path, options)
    run = Run.open(options.subject)
    with translate_data_errors(options.reference or run.config().data.name):
        return evaluate_run(run, options)


def evaluate_run(run, options):
    """Measures the averaged generator of a `Run`, by `EvaluateOptions`; writes the result, and images, into a folder.

    Returns:
        `Result`; None on workers but the chief.

    Raises:
        UserError: Options contradict one another or the run; generator, feature network or reference cannot be opened;
            the data are not those of the run; another process measures the same; or a worker's share did not come.
    """
    started_at, config, worker = time.monotonic(), run.config(), read_worker()
    rule = config.data.name if config.data.name in embedded.NAMES else None
    image_names = _image_metric_names(options, rule)
    if image_sides(options):
        raise UserError("--image_size: a run knows the size of its images; the option is for a folder of images.")
    if options.truncation_curve and not _curve_metric_names(options):
        raise UserError(f"--truncation_curve: it needs one of the metrics {', '.join(CURVE_METRICS)}.")
    evaluator, left_out = _make_evaluator(options, image_names)
    with evaluator.strategy.scope():
        networks = restore_networks(run, options.step, best=options.best)
        # Before the statistics are recomputed, which other workers round differently.
        weights = sha256_of_parts(weight.tobytes() for weight in networks.generator.get_weights())
        if options.standing:
            set_standing_statistics(networks.generator, networks.num_classes, options.standing, seed=options.seed)
        folded = fold_generator(networks.generator)
    source = _open_run_reference(run, config, options, folded.image_shape)
    shares = _label_shares(run, source, options, folded.num_classes)
    samples = SampleSet(options.num_samples, options.seed, options.truncation, shares)
    subject = describe_generator(run, networks, options, weights)
    out = Path(options.out or run.output_path / run.evaluation_path.name)
    stem = out / run_stem(networks.step, features_name(evaluator.network), options)
    sampler = evaluator.sampler(folded)
    reader = SampleReader(sampler, samples)
    if evaluator.network is not None:
        measured = _measure_features(run, evaluator, reader, subject, stem, source, options)
    else:
        if options.truncation_curve:
            left_out["truncation_curve"] = next(iter(left_out.values()))
        measured = _Measured(_describe_reference(evaluator, source, options), left_out=left_out)
    if not worker.is_chief:
        return None
    files = measured.files
    more_metrics, more_left_out = image_metrics(reader, source, image_names, rule, options.num_reference)
    if "nearest" in image_names and source is not None and not files:
        files = [save_pixel_neighbours(reader, source, options.num_reference, _beside(stem, "_neighbours.png"))]
    files.insert(0, save_class_image(reader, class_names(run, folded.num_classes), _beside(stem, "_samples.png")))
    about = {
        "samples": {
            "count": samples.count,
            "seeds": [samples.seed, samples.seed + samples.count - 1],
            "truncation": samples.truncation,
            "labels": None if folded.num_classes is None else _LABELS[options.labels],
        },
        **_describe_evaluation(evaluator, measured.reference, started_at),
    }
    metrics, left_out = measured.metrics + more_metrics, measured.left_out | more_left_out
    result = Result(subject, metrics, left_out, about, evaluator.is_inception, files, measured.curve)
    _write(result, _beside(stem, ".json"), measured.removals)
    if options.out is None and run.output_path == run.path:
        write_report([run], run.report_path)
        files.append(run.report_path)
    return result


def evaluate_folder(folder, options):
    """Measures the images of a folder, a pathlib.Path, by `EvaluateOptions`; writes the result into a folder.

    Returns:
        `Result`.

    Raises:
        UserError: There is no reference, an option is for runs only, or images, feature network or reference cannot
            be opened.
    """
    started_at = time.monotonic()
    if options.reference is None:
        raise UserError(
            "--reference: a folder of images needs a reference; name a data set, a folder, or a file of statistics."
        )
    refuse_run_options(options)
    rule = options.reference if options.reference in embedded.NAMES else None
    image_names = _image_metric_names(options, rule)
    evaluator, left_out = _make_evaluator(options, image_names)
    sides = image_sides(options) or _default_sides(folder)
    # Absolute: a folder may have the name of a data set.
    pictures = _open(_data(options, os.path.abspath(folder), **sides))
    source = _open_reference(options, pictures.image_shape, pictures.resize)
    has_same_classes = source is not None and pictures.class_names == source.class_names
    stem = Path(options.out or "evaluation") / folder_stem(folder, features_name(evaluator.network), options)
    about = evaluator.describe_dataset(pictures)
    if evaluator.network is None:
        metrics, removals, reference = [], [], _describe_reference(evaluator, source, options)
    else:
        reference_features = _reference_features(evaluator, source, options)
        with _lock(stem):
            measured, collector = evaluator.collect_images(pictures, about, _beside(stem, ".collecting"))
        if not has_same_classes:
            measured = dataclasses.replace(measured, labels=None)  # the labels of other classes mean nothing here
        metrics, left_out = _feature_metrics(evaluator, measured, reference_features, options)
        removals, reference = [collector.close], reference_features.about
    reader = ImageReader(pictures, has_same_classes)
    more_metrics, more_left_out = image_metrics(reader, source, image_names, rule, options.num_reference)
    subject = {"folder": folder.name, "count": pictures.num_images, "picture": about["picture"]}
    about = _describe_evaluation(evaluator, reference, started_at)
    result = Result(subject, metrics + more_metrics, left_out | more_left_out, about, evaluator.is_inception, [])
    return _write(result, _beside(stem, ".json"), removals)


def _make_evaluator(options, image_names):
    """Returns the `Evaluator`, and the metrics of features that it cannot compute -> reason.

    Without Inception it has no feature network, and only the metrics `image_names` remain.
    """
    set_numerics(tf32=False)  # the measure is the same for all runs
    strategy = make_local_strategy("mirrored" if options.replicas else "auto", options.replicas)
    names, network, left_out = _feature_metric_names(options), None, {}
    try:
        if names:
            with strategy.scope():
                network = open_features(
                    options.features, options.inception, options.pixel_range, options.inception_sha256
                )
    except InceptionUnavailable as error:
        if not image_names:
            raise
        left_out = dict.fromkeys(names, str(error))
    devices = f"{strategy.num_replicas_in_sync} device(s)"
    if network is None:
        print(f"Features: none, {devices}")
    else:
        print(f"Features: {network.name} ({network.dimensions:,} numbers, SHA-256 {network.sha256[:12]}), {devices}")
    return Evaluator(network, strategy, options.batch_size), left_out


@dataclasses.dataclass
class _Measured:
    """What the features of a run's samples give, besides files that are written and functions that clean up."""

    reference: dict
    metrics: list = dataclasses.field(default_factory=list)
    left_out: dict = dataclasses.field(default_factory=dict)
    files: list = dataclasses.field(default_factory=list)
    removals: list = dataclasses.field(default_factory=list)
    curve: list = dataclasses.field(default_factory=list)


def _measure_features(run, evaluator, reader, subject, stem, source, options):
    """Computes the metrics of a run's features, and saves nearest neighbors; None on workers but the chief."""
    worker = read_worker()
    reference = _reference_features(evaluator, source, options) if worker.is_chief else None
    with _lock(stem, worker.index):
        generated, removals = _collect_samples(evaluator, reader.sampler, reader.samples, subject, stem, worker)
        curve, more_removals = _measure_curve(evaluator, reader, subject, stem, generated, reference, options)
        removals += more_removals
    if generated is None:
        return None
    if not has_classes_of(run, reference.about.get("class_names")):
        generated = dataclasses.replace(generated, labels=None)  # the labels of other classes mean nothing here
    metrics, left_out = _feature_metrics(evaluator, generated, reference, options)
    files = []
    if source is not None and reference.features is not None:
        files = [save_feature_neighbours(generated, reference, reader, source, _beside(stem, "_neighbours.png"))]
    path = _beside(stem, "_truncation_curve.png")
    if curve:
        files.append(save_truncation_curve(curve, evaluator.is_inception, reader.count, path))
    return _Measured(reference.about, metrics, left_out, files, removals, curve)


def _measure_curve(evaluator, reader, subject, stem, generated, reference, options):
    """Measures the samples at each truncation: (list of (truncation, metrics), functions that clean up)."""
    worker, curve, removals, own = read_worker(), [], [], options.truncation
    data = reference and dataclasses.replace(reference, score=None)  # it is in the metrics of the evaluation
    for truncation in sorted({*options.truncation_curve, own} if options.truncation_curve else ()):
        features = generated
        if truncation != own:
            samples = dataclasses.replace(reader.samples, truncation=truncation)
            path = _beside(stem, f"-at_{truncation:g}")
            features, more = _collect_samples(evaluator, reader.sampler, samples, subject, path, worker)
            removals += more
        if worker.is_chief:
            curve.append((truncation, evaluator.metrics(features, data, _curve_metric_names(options))[0]))
    return curve, removals


def _lock(stem, worker=0):
    """Locks what is collected for a result, and makes its folder."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    busy = f"{stem}: another process measures the same. Wait for it, or choose another --out."
    return exclusive(_beside(stem, f".{worker}.lock"), error=busy, remove=True)


def _beside(stem, suffix):
    return stem.with_name(f"{stem.name}{suffix}")


def _collect_samples(evaluator, sampler, samples, subject, stem, worker):
    """Collects this worker's share; returns all features on the chief, otherwise None, and functions that clean up."""
    paths = shard_paths(stem, worker)
    path, share = paths[worker.index], (worker.index, worker.count)
    folder = f"{stem if worker.count == 1 else path}.collecting"
    features, collector = evaluator.collect_samples(sampler, samples, subject, folder, share)
    features = gather_shards(features, paths, worker, _WORKERS_MINUTES)
    if worker.is_chief:
        return features, [collector.close, *(functools.partial(path.unlink, missing_ok=True) for path in paths)]
    collector.close()
    print(f"This worker's share of the samples is complete; the chief continues with it: {path}")
    return None, []


def _open_run_reference(run, config, options, image_shape):
    """Opens the data set to compare with, and checks that of the run; None for a file of statistics."""
    if options.reference is not None:
        return _open_reference(options, image_shape, config.data.resize)
    # The data may have moved since training.
    changes = {name: value for name, value in {**_data_options(options), "split": options.split}.items() if value}
    source = _open(dataclasses.replace(config.data, **changes))
    other_split = source.split != config.data.split
    check_data(run, portable_fingerprint(source), options.allow_data_change, classes_only=other_split)
    return source


def _open_reference(options, image_shape, resize):
    """Opens --reference, with images made as those that it is compared with; None for a file of statistics."""
    if options.reference.endswith(".npz"):
        return None
    height, width, channels = image_shape
    shape = {"image_height": height, "image_width": width, "image_channels": channels, "resize": resize}
    return _open(_data(options, options.reference, split=options.split or "train", **shape))


def _data(options, name, **fields):
    """The `DataOptions` of a data set or folder; prepared images keep their resize filter and, by default, channels."""
    split = fields.get("split", "train")
    manifest = read_manifest(split_folder(name, split)) if os.path.isdir(name) and is_prepared(name) else None
    if manifest is not None:
        made = manifest["options"]
        fields = {"image_channels": made["image_channels"], **fields, "resize": made["resize"]}
    return DataOptions(name=name, **fields, **_data_options(options))


def _open(data):
    """Opens a data set, and prints which of its files are not used."""
    source = open_source(data)
    for line in describe_skipped(source):
        print(line)
    return source


def _data_options(options):
    return {"data_dir": options.data_dir, "manual_dir": options.manual_dir, "download": options.download}


def _reference_features(evaluator, source, options):
    if source is None:
        return evaluator.read_statistics(options.reference)
    return evaluator.dataset_features(source, options.num_reference, refresh=options.refresh)


def _describe_reference(evaluator, source, options):
    return {"data": options.reference} if source is None else evaluator.describe_dataset(source)


def _label_shares(run, source, options, num_classes):
    if options.labels == "uniform" or num_classes is None:
        return None
    if source is None or source.num_classes != num_classes or not has_classes_of(run, source.class_names):
        raise UserError("--labels data: the reference does not have the classes of the generator.")
    return tuple(class_distribution(source))


def _feature_metrics(evaluator, measured, reference, options):
    return evaluator.metrics(measured, reference, _feature_metric_names(options), options.at_infinity)


def _feature_metric_names(options):
    return [name for name in METRICS if options.metrics is None or name in options.metrics]


def _curve_metric_names(options):
    return [name for name in _feature_metric_names(options) if name in CURVE_METRICS]


def _image_metric_names(options, rule):
    if options.metrics is not None:
        return [name for name in IMAGE_METRICS if name in options.metrics]
    # Data without a rule is no reason for a line in the table, unless the user asks for it.
    return IMAGE_METRICS if rule else [name for name in IMAGE_METRICS if name != "rule"]


def _default_sides(folder):
    """The size of prepared images, or the largest square in the first image of a folder, see `DataOptions`."""
    if is_prepared(folder):
        manifest = read_manifest(split_folder(folder, "train"))
        if manifest is not None:
            height, width, _ = prepared_shape(manifest["options"])
            return {"image_height": height, "image_width": width}
    path = list_images(str(folder), "train").paths[0]
    try:
        with open_image(path) as picture:
            return {"image_size": min(picture.size)}
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def _describe_evaluation(evaluator, reference, started_at):
    return {
        "reference": {name: value for name, value in reference.items() if name != "features"},
        "features": None if evaluator.network is None else evaluator.network.about(),
        "devices": evaluator.strategy.num_replicas_in_sync,
        "seconds": round(time.monotonic() - started_at, 1),
        "environment": describe_environment(),
    }


def _write(result, path, removals):
    """Writes the result, and then removes the collected features."""
    write_text(path, to_json(result))
    result.files.insert(0, path)
    for remove in removals:
        remove()
    return result
