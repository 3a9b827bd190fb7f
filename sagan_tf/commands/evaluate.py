"""Figures of a run's generator, or of a folder of pictures: what `python -m sagan_tf.evaluate` does."""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

from sagan_tf.commands.evaluate_pictures import (
    SampleReader,
    picture_figures,
    save_class_picture,
    save_neighbour_picture,
)
from sagan_tf.data import embedded
from sagan_tf.data.folders import list_pictures
from sagan_tf.data.options import DataOptions
from sagan_tf.data.sources import class_distribution, open_source
from sagan_tf.errors import UserError
from sagan_tf.evaluation.features import open_features
from sagan_tf.evaluation.measurer import Measurer, Samples, plain_name
from sagan_tf.evaluation.metric_names import METRICS, PICTURE_METRICS
from sagan_tf.evaluation.metrics import compute_metrics
from sagan_tf.evaluation.results import Result, to_json
from sagan_tf.evaluation.shards import merge_shards, save_shard, wait_for_shards
from sagan_tf.evaluation.standing_statistics import set_standing_statistics
from sagan_tf.evaluation.statistics import read_statistics
from sagan_tf.experiment.loading import class_names, restore_networks
from sagan_tf.files.atomic import write_text
from sagan_tf.files.locks import exclusive
from sagan_tf.generation.folding import fold_generator
from sagan_tf.runs.environment import describe_environment
from sagan_tf.runs.folder import Run
from sagan_tf.training.distribution import make_local_strategy
from sagan_tf.training.workers import read_worker

_WORKERS_MINUTES = 30  # That the chief waits for another worker's share.


def evaluate_run(run, options):
    """Measures a run's averaged generator and writes the result.

    Args:
        run: `Run`.
        options: `EvaluateOptions`.

    Returns:
        Result; None on workers but the chief, where `TF_CONFIG` names several: they make their share of the samples.

    Raises:
        UserError: The run has no generator, or the reference or the features are not to be had.
    """
    began, config = time.monotonic(), run.config()
    measurer, strategy = _measurer(options)
    with strategy.scope():
        networks = restore_networks(run, options.step, best=options.best)
        if options.standing:
            set_standing_statistics(networks.generator, networks.num_classes, options.standing, seed=options.seed)
        folded = fold_generator(networks.generator)
    source = _source_of_run(config, options, folded.image_shape[0])
    subject = {
        "run": run.path.name,
        "generator": _which(config, networks.step, options.best),
        "step": networks.step,
        "batch_normalization": f"statistics of {options.standing} new batches of 64" if options.standing else
        "moving statistics of training",
    }
    samples = Samples(options.num_samples, options.seed, options.truncation, _label_shares(source, options, folded))
    out, worker = Path(options.out or run.path / "evaluation"), read_worker()
    stem = _stem(networks.step, measurer.network, options)
    reference = _reference(measurer, source, options) if worker.is_chief else None
    sampler = measurer.sampler(folded)
    out.mkdir(parents=True, exist_ok=True)
    busy = f"{out / stem}: another process measures the same. Wait for it, or choose another --out."
    with exclusive(out / f"{stem}.{worker.index}.lock", error=busy, remove=True):
        generated, collectors = _collect_with_others(measurer, sampler, samples, subject, out / stem, worker)
    if generated is None:
        return None
    figures, left_out = _measure(generated, reference, options)
    reader = SampleReader(sampler, samples)
    rule_of = config.data.name if config.data.name in embedded.NAMES else None
    # A rule that does not exist is only missed by those who asked for it.
    usual = PICTURE_METRICS if rule_of else [name for name in PICTURE_METRICS if name != "rule"]
    wanted = usual if options.metrics is None else [name for name in PICTURE_METRICS if name in options.metrics]
    more, gone = picture_figures(reader, source, wanted, rule_of)
    files = [save_class_picture(reader, class_names(run, folded.num_classes), out / f"{stem}_samples.png")]
    if source is not None and reference.features is not None:
        path = out / f"{stem}_neighbours.png"
        files.append(save_neighbour_picture(generated, reference, reader, source, path))
    result = Result(
        subject, figures + more, left_out | gone,
        _about(measurer, reference, strategy, began, samples=_about_samples(samples, options, folded)),
        measurer.network.is_inception, files,
    )
    _write(result, out / f"{stem}.json")
    for collector in collectors:
        collector.close()
    return result


def _collect_with_others(measurer, sampler, samples, subject, stem, worker):
    """Collects this worker's share of the samples; the chief gets all, and others None."""
    share, stem = (worker.index, worker.count), str(stem)
    if worker.count == 1:
        found, collector = measurer.of_generator(sampler, samples, subject, stem + ".collecting")
        return found, [collector]
    names = [Path(f"{stem}.share_{i + 1}_of_{worker.count}.npz") for i in range(worker.count)]
    mine = names[worker.index]
    found, collector = measurer.of_generator(sampler, samples, subject, f"{mine}.collecting", share)
    if worker.is_chief:
        others = wait_for_shards(names[1:], found.about, _WORKERS_MINUTES)
        return merge_shards([found, *others]), [collector, *map(_File, names[1:])]
    save_shard(found, mine)
    collector.close()
    print(f"This worker's share of the samples is there, the chief goes on with it: {mine}")
    return None, []


@dataclass(frozen=True)
class _File:
    path: Path

    def close(self):
        self.path.unlink(missing_ok=True)


def evaluate_folder(folder, options):
    """Measures a folder of pictures and writes the result.

    Args:
        folder: Path.
        options: `EvaluateOptions` with a reference.

    Returns:
        Result.

    Raises:
        UserError: There is no reference, or something is not to be had.
    """
    began = time.monotonic()
    if options.reference is None:
        raise UserError("--reference: a folder of pictures is measured against something; name a data set, a folder, "
                        "or a file of statistics.")
    size = options.image_size or _size_of_first(folder)
    measurer, strategy = _measurer(options)
    pictures = open_source(DataOptions(name=str(folder), image_size=size, **_data_options(options)))
    source = _open_reference(options, size, options.split or "train")
    reference = _reference(measurer, source, options)
    out = Path(options.out or "evaluation")
    stem = f"{plain_name(Path(folder).name)}-{plain_name(measurer.network.name)}"
    about = measurer.about_source(pictures)
    measured, collector = measurer.of_pictures(pictures, about, out / f"{stem}.collecting")
    measured = _with_labels_of(measured, pictures, source)
    figures, left_out = _measure(measured, reference, options)
    subject = {"folder": Path(folder).name, "count": pictures.num_images, "picture": about["picture"]}
    result = Result(subject, figures, left_out, _about(measurer, reference, strategy, began),
                    measurer.network.is_inception, [])
    _write(result, out / f"{stem}.json")
    collector.close()
    return result


def _measurer(options):
    strategy = make_local_strategy("mirrored" if options.replicas else "auto", options.replicas)
    with strategy.scope():
        network = open_features(options.features, options.inception, options.pixel_range, options.inception_sha256)
    print(f"Features: {network.name} ({network.dimensions:,} numbers, SHA-256 {network.sha256[:12]}), "
          f"{strategy.num_replicas_in_sync} device(s)")
    return Measurer(network, strategy, options.batch_size), strategy


def _source_of_run(config, options, size):
    """The data set to measure against; None where statistics were given."""
    if options.reference is not None:
        return _open_reference(options, size, options.split or "train")
    # The data may lie elsewhere than where the run was trained.
    given = {name: value for name, value in {**_data_options(options), "split": options.split}.items() if value}
    return open_source(dataclasses.replace(config.data, **given))


def _open_reference(options, size, split):
    if options.reference.endswith(".npz"):
        return None
    return open_source(DataOptions(name=options.reference, split=split, image_size=size, **_data_options(options)))


def _data_options(options):
    return {"data_dir": options.data_dir, "manual_dir": options.manual_dir, "download": options.download}


def _reference(measurer, source, options):
    if source is not None:
        return measurer.of_source(source, options.num_reference, refresh=options.refresh)
    found = read_statistics(options.reference)
    mine, made_with = measurer.network.about(), found.about.get("features")
    if made_with is not None and made_with != mine:
        raise UserError(
            f"--reference: {options.reference} was made with the features {made_with.get('name')} (SHA-256 "
            f"{str(made_with.get('sha256'))[:12]}), not with {mine['name']} ({mine['sha256'][:12]})."
        )
    if len(found.moments.mean) != mine["dimensions"]:
        raise UserError(
            f"--reference: {options.reference} holds {len(found.moments.mean):,} features, and {mine['name']} has "
            f"{mine['dimensions']:,}."
        )
    return found


def _label_shares(source, options, folded):
    if options.labels == "uniform" or folded.num_classes is None:
        return None
    if source is None or source.num_classes != folded.num_classes:
        raise UserError("--labels data: the reference does not have the classes of the generator.")
    return tuple(class_distribution(source))


def _with_labels_of(measured, pictures, source):
    """Labels of a folder count only where its classes are the reference's by name."""
    if source is not None and pictures.class_names == source.class_names:
        return measured
    return type(measured)(**{**vars(measured), "labels": None})


def _measure(measured, reference, options):
    wanted = [name for name in METRICS if options.metrics is None or name in options.metrics]
    return compute_metrics(measured, reference, wanted, options.at_infinity)


def _which(config, step, best):
    decay = config.training.ema_decay
    average = "last weights" if decay is None else f"average of the weights (EMA), decay {decay:g}"
    return f"{average}{', best of the evaluations during training' if best else ''}, step {step}"


def _size_of_first(folder):
    from PIL import Image

    paths, *_ = list_pictures(str(folder), "train")
    try:
        with Image.open(paths[0]) as picture:
            return min(picture.size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{paths[0]}: cannot be read: {error}") from None


def _stem(step, network, options):
    standing = f"-standing_{options.standing}" if options.standing else ""
    cut = f"-truncation_{options.truncation:g}" if options.truncation < 6 else ""
    which = "best" if options.best else f"step_{step or 0:08d}"
    return f"{which}-{plain_name(network.name)}{standing}{cut}"


def _about_samples(samples, options, folded):
    return {
        "count": samples.count,
        "seeds": [samples.seed, samples.seed + samples.count - 1],
        "truncation": samples.truncation,
        "labels": None if folded.num_classes is None else
        {"uniform": "the classes in turn", "data": "as often as in the data"}[options.labels],
    }


def _about(measurer, reference, strategy, began, **more):
    return {
        **more,
        "reference": {name: value for name, value in reference.about.items() if name != "features"},
        "features": measurer.network.about(),
        "devices": strategy.num_replicas_in_sync,
        "seconds": round(time.monotonic() - began, 1),
        "environment": describe_environment(),
    }


def _write(result, path):
    write_text(path, to_json(result))
    result.files.insert(0, path)


def evaluate(options):
    """Measures a run's generator, or a folder of pictures.

    Args:
        options: `EvaluateOptions`.

    Returns:
        Result, or None: see `evaluate_run`.

    Raises:
        UserError: The folder is neither, or cannot be measured.
    """
    path = Path(options.subject)
    if not path.is_dir():
        raise UserError(f"{path}: there is no such folder. Name a run folder, or a folder of pictures.")
    if (path / "config.yaml").is_file():
        return evaluate_run(Run.open(path), options)
    return evaluate_folder(path, options)
