"""Measures the averaged generator of a run that is going on, as its config's section `evaluation` says."""

import contextlib
import os
import shutil
from dataclasses import dataclass

import tensorflow as tf

from sagan_tf.data.sources import open_source
from sagan_tf.evaluation.features import open_features
from sagan_tf.evaluation.measures import measure
from sagan_tf.measuring import Measurer, Samples
from sagan_tf.training.evaluations import Evaluations
from sagan_tf.training.gan import with_label

_COUNT = "evaluation_samples"  # In every line of figures, and in no other.
_NAMES = {"frechet_distance": "fid", "kernel_distance": "kid"}  # With Inception's features.


class _Stopped(Exception):
    """The run stops, and waits for no measurement."""


def is_missing(config, run, step):
    """Whether a step was to be measured, and was not because the run was stopped there.

    Args:
        config: `Config`.
        run: `Run`.
        step: int, of the checkpoint that the run goes on from.

    Returns:
        bool.
    """
    interval = config.evaluation.interval
    if not interval or not step or (step % interval and step != config.training.steps):
        return False
    return not any(line["step"] == step and _COUNT in line for line in run.read_metrics())


def evaluation_callbacks(config, run, gan, source, record):
    """Makes what measures, where the config wants it.

    Args:
        config: `Config`.
        run: `Run`.
        gan: Compiled SAGAN.
        source: `data.sources.Source` that is trained on.
        record: Function of a dict, `step` and figures by name.

    Returns:
        list of Keras callbacks, empty or one.

    Raises:
        UserError: The features or the split are not to be had; said before the first step.
    """
    options = config.evaluation
    if not options.interval:
        return []
    strategy = gan.distribute_strategy
    several_workers = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    if several_workers:
        strategy = None  # The chief measures alone: the others wait in the next step for it.
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        network = open_features(options.features, options.inception, options.pixel_range)
    measurer = Measurer(network, strategy)
    reference = measurer.of_source(_source(config, source))
    samples = Samples(options.num_samples, config.training.seed + 1)
    paint, folder = measurer.painter(_Averaged(gan)), run.evaluation_path / "training.collecting"
    print(f"Evaluation: every {options.interval:,} steps, {samples.count:,} samples against {reference.count:,} "
          f"pictures, by {network.name}; the best generator: {run.best_generator_path}")

    def paint_unless_stopped(seeds, labels):
        # Several workers stop together, after the next step: what was to be measured would be gone.
        if gan.stop_wanted and not several_workers:
            raise _Stopped
        return paint(seeds, labels)

    def figures_at(step):
        shutil.rmtree(folder, ignore_errors=True)  # of another life of this run, perhaps with other weights
        try:
            found, collector = measurer.of_generator(
                paint_unless_stopped, gan.num_classes, samples, {"step": step}, folder
            )
        except _Stopped:
            shutil.rmtree(folder, ignore_errors=True)
            print(f"The evaluation at step {step} is left to the next start, for the run stops.")
            return None
        figures, _ = measure(found, reference, ("fid", "kid"))
        collector.close()
        names = _NAMES if network.is_inception else {}
        values = {names.get(figure.key, figure.key): figure.value for figure in figures}
        return values | {_COUNT: samples.count}

    return [
        Evaluations(
            figures_at, record, lambda *found: _keep_best(run, *found), options.interval,
            lambda step: is_missing(config, run, step),
        )
    ]  # fmt: skip


@dataclass(frozen=True)
class _Averaged:
    """The averaged generator of a SAGAN, as a `Measurer` asks for it; its weights are those of the moment."""

    gan: object

    @property
    def latent_dim(self):
        return self.gan.latent_dim

    def paint(self, latent, label=None):
        return {"image": self.gan(with_label(latent, label), training=False)}


def _source(config, source):
    split = config.evaluation.split
    if split in (None, config.data.split):
        return source
    return open_source(
        split=split,
        seed=config.training.seed,
        **{name: value for name, value in vars(config.data).items() if name not in ("split", "flip", "dequantize")},
    )


def _keep_best(run, gan, step, figures):
    metric = next(name for name in figures if name in ("fid", "frechet_distance"))
    best = run.best()
    if best is not None and best["metric"] == metric and best["value"] <= figures[metric]:
        return
    beside = str(run.best_generator_path).removesuffix(".keras") + ".partial.keras"
    gan.ema_generator.save(beside)
    os.replace(beside, run.best_generator_path)
    run.save_best({"step": step, "metric": metric, "value": figures[metric]})
