"""`sagan evaluate`: measures a run's generator, or a folder of images."""

import sys
import time
from pathlib import Path

from sagan_tf.commands.evaluate_checks import refuse_feature_options, refuse_network_options, refuse_run_options
from sagan_tf.commands.evaluate_data import (
    describe_reference,
    label_shares,
    open_images,
    open_reference,
    open_run_reference,
)
from sagan_tf.commands.evaluate_features import (
    MeasuredFeatures,
    curve_metric_names,
    feature_metric_names,
    measure_images,
    measure_samples,
)
from sagan_tf.commands.evaluate_images import (
    ImageReader,
    SampleReader,
    image_metrics,
    save_class_image,
    save_pixel_neighbors,
)
from sagan_tf.commands.evaluate_names import beside, describe_generator, features_name, folder_stem, run_stem
from sagan_tf.commands.options import image_sides
from sagan_tf.data import embedded
from sagan_tf.data.sources import translate_data_errors
from sagan_tf.errors import UserError, renamed_options
from sagan_tf.evaluation.evaluator import Evaluator, SampleSet
from sagan_tf.evaluation.features import open_features
from sagan_tf.evaluation.inception import InceptionUnavailable
from sagan_tf.evaluation.metric_names import CURVE_METRICS, IMAGE_METRICS
from sagan_tf.evaluation.results import Result, to_json
from sagan_tf.evaluation.standing_statistics import set_standing_statistics
from sagan_tf.experiment.loading import class_names, restore_networks
from sagan_tf.files.atomic import write_text
from sagan_tf.files.hashing import sha256_of_parts
from sagan_tf.files.hub import is_hub_name
from sagan_tf.generation.folding import fold_generator
from sagan_tf.runs.environment import describe_environment
from sagan_tf.runs.folder import Run
from sagan_tf.runs.report import write_report
from sagan_tf.training.distribution import make_local_strategy, set_numerics
from sagan_tf.training.workers import read_worker

_LABELS = {"uniform": "drawn with equal probabilities", "data": "drawn as often as in the data"}


def evaluate(options):
    """Measures what `EvaluateOptions` name, by `evaluate_run` or `evaluate_folder`; results and errors are theirs.

    Raises:
        UserError: There is no such folder.
    """
    path = Path(options.subject)
    if is_hub_name(options.subject) or (path / "config.yaml").is_file():
        run = Run.open(options.subject)
        with translate_data_errors(options.reference or run.config().data.name):
            return evaluate_run(run, options)
    if not path.is_dir():
        raise UserError(f"{path}: there is no such folder. Name a run folder, or a folder of images.")
    with translate_data_errors(path, options.reference):
        return evaluate_folder(path, options)


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
    for name in image_sides(options):
        raise UserError(f"--{name}: a run knows the size of its images; the option is for a folder of images.")
    if options.truncation_curve and not curve_metric_names(options):
        raise UserError(f"--truncation_curve: it needs one of the metrics {', '.join(CURVE_METRICS)}.")
    evaluator, left_out = _make_evaluator(options, image_names)
    networks, weights, folded = _open_generator(run, evaluator, options)
    source = open_run_reference(run, config, options, folded.image_shape)
    shares = label_shares(run, source, options, folded.num_classes)
    samples = SampleSet(options.num_samples, options.seed, options.truncation, shares)
    subject = describe_generator(run, networks, options, weights)
    out = Path(options.out or run.output_path / run.evaluation_path.name)
    stem = out / run_stem(run.name, weights, networks.step, features_name(evaluator.network), options)
    reader = SampleReader(evaluator.sampler(folded), samples)
    if evaluator.network is not None:
        measured = measure_samples(run, evaluator, reader, subject, stem, source, options)
    else:
        if options.truncation_curve:
            left_out["truncation_curve"] = next(iter(left_out.values()))
        measured = MeasuredFeatures(describe_reference(evaluator, source, options), left_out=left_out)
    if not worker.is_chief:
        return None
    files = measured.files
    of_images = image_metrics(reader, source, image_names, rule, options.num_reference)
    if "nearest" in image_names and source is not None and not files:
        files = [save_pixel_neighbors(reader, source, options.num_reference, beside(stem, "_neighbors.png"))]
    files.insert(0, save_class_image(reader, class_names(run, folded.num_classes), beside(stem, "_samples.png")))
    about = {
        "samples": {
            "count": samples.count,
            "seeds": [samples.seed, samples.seed + samples.count - 1],
            "truncation": samples.truncation,
            "labels": None if folded.num_classes is None else _LABELS[options.labels],
        },
        **_describe_evaluation(evaluator, measured.reference, started_at),
    }
    result = _write_result(stem, subject, measured, of_images, about, evaluator, files)
    if options.out is None and run.output_path == run.path:
        try:
            write_report([run], run.report_path)
            result.files.append(run.report_path)
        except (UserError, OSError) as error:  # of a file of the run; the result is there
            print(f"Warning: the report is not written: {error}", file=sys.stderr)
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
    images = open_images(folder, options)
    source = open_reference(options, images.image_shape, images.resize)
    has_same_classes = source is not None and images.class_names == source.class_names
    stem = Path(options.out or "evaluation") / folder_stem(folder, features_name(evaluator.network), options)
    about = evaluator.describe_dataset(images)
    if evaluator.network is not None:
        measured = measure_images(images, evaluator, about, stem, source, options)
    else:
        measured = MeasuredFeatures(describe_reference(evaluator, source, options), left_out=left_out)
    reader = ImageReader(images, has_same_classes)
    of_images = image_metrics(reader, source, image_names, rule, options.num_reference)
    subject = {"folder": folder.resolve().name, "count": images.num_images, "picture": about["picture"]}
    about = _describe_evaluation(evaluator, measured.reference, started_at)
    return _write_result(stem, subject, measured, of_images, about, evaluator, [])


def _open_generator(run, evaluator, options):
    """Returns the networks of a run, the SHA-256 of their weights, and the folded generator."""
    with evaluator.strategy.scope():
        networks = restore_networks(run, options.step, best=options.best)
        # Before the statistics are recomputed, which other workers round differently.
        weights = sha256_of_parts(weight.tobytes() for weight in networks.generator.get_weights())
        if options.standing:
            set_standing_statistics(networks.generator, networks.num_classes, options.standing, seed=options.seed)
        return networks, weights, fold_generator(networks.generator)


def _make_evaluator(options, image_names):
    """Returns the `Evaluator`, and the metrics of features that it cannot compute -> reason.

    Without Inception it has no feature network, and only the metrics `image_names` remain.
    """
    names, network, left_out = feature_metric_names(options), None, {}
    refuse_feature_options(options, names)
    refuse_network_options(options)
    set_numerics(tf32=False)  # the measure is the same for all runs
    with renamed_options({"hardware.replicas": "--replicas"}):
        strategy = make_local_strategy("mirrored" if options.replicas else "auto", options.replicas)
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


def _image_metric_names(options, rule):
    if options.metrics is not None:
        return [name for name in IMAGE_METRICS if name in options.metrics]
    # Data without a rule get no line in the table, unless the user asks for it.
    return IMAGE_METRICS if rule else [name for name in IMAGE_METRICS if name != "rule"]


def _describe_evaluation(evaluator, reference, started_at):
    return {
        "reference": {name: value for name, value in reference.items() if name != "features"},
        "features": None if evaluator.network is None else evaluator.network.about(),
        "devices": evaluator.strategy.num_replicas_in_sync,
        "seconds": round(time.monotonic() - started_at, 1),
        "environment": describe_environment(),
    }


def _write_result(stem, subject, measured, of_images, about, evaluator, files):
    """Writes the `Result` of `MeasuredFeatures` and `image_metrics`, and then removes the collected features."""
    metrics, left_out = of_images
    path = beside(stem, ".json")
    result = Result(
        subject,
        measured.metrics + metrics,
        measured.left_out | left_out,
        about,
        evaluator.is_inception,
        [path, *files],
        measured.curve,
    )
    write_text(path, to_json(result))
    for remove in measured.removals:
        remove()
    return result
