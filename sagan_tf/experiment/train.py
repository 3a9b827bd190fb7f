"""A run from its config to its folder; below this module nobody sees a Config."""

import contextlib
import functools
import os
import time

import numpy as np
from tqdm.auto import tqdm

from sagan_tf.data import embedded, rules
from sagan_tf.data.pipeline import make_dataset
from sagan_tf.data.sources import contact_sheet_images, describe, open_source, translate_data_errors
from sagan_tf.experiment.build import build_gan
from sagan_tf.experiment.callbacks import MetricsRecorder, recording_callbacks
from sagan_tf.experiment.checkpoints import make_manager, restore_latest
from sagan_tf.experiment.online_evaluation import evaluation_callbacks, is_missing
from sagan_tf.experiment.preflight import check_devices, check_memory, translate_memory_errors
from sagan_tf.experiment.recovery import prepare_recovery, rate_factor
from sagan_tf.generation.sampler import Sampler, draw_latents_of, grid_seeds
from sagan_tf.runs.folder import Run
from sagan_tf.training.callbacks import Metrics, Progress, StopOnSignal
from sagan_tf.training.distribution import make_strategy
from sagan_tf.training.evaluations import EvaluationInterrupted
from sagan_tf.training.guard import GROUPS, SAMPLES, Guard, TrainingFailure
from sagan_tf.training.workers import (
    check_same_step,
    read_worker,
    silence_unless,
    translate_lost_worker_errors,
    wait_for_all,
)
from sagan_tf.viewing.image_grids import save_contact_sheet


def train(config, callbacks=()):
    """Trains as a config says, or goes on with a run that was interrupted.

    Args:
        config: `Config`.
        callbacks: More Keras callbacks.

    Returns:
        Run, the folder with all that was made.

    Raises:
        UserError: The data, the folder or the surroundings do not allow it, or the training diverged.
    """
    check_memory(config)
    worker = read_worker()
    strategy = make_strategy(config.hardware.distribution, config.hardware.replicas)
    check_devices(config, strategy)
    with (
        translate_data_errors(config.data.name),
        translate_lost_worker_errors(worker),
        translate_memory_errors(),
        silence_unless(worker.is_chief),
    ):
        return _train(config, strategy, worker, callbacks)


def _train(config, strategy, worker, callbacks):
    # A new run folder is not made for data that cannot be read; one that is there is checked before they are.
    source = None if os.path.exists(config.run) else open_source(config.data)
    with Run.create_or_resume(config.run, config) if worker.is_chief else Run(config.run) as run:
        source = source or open_source(config.data)
        if worker.is_chief:
            report_data(source, run)
        while True:
            wait_for_all(strategy, worker)  # the folder is there now, with all recoveries
            with strategy.scope():
                gan = build_gan(config, source, rate_factor(run))
            restore_latest(gan, run)
            check_same_step(strategy, worker, int(gan.step.numpy()))
            manager = make_manager(gan, run, config.output.checkpoints_to_keep) if worker.is_chief else None
            try:
                fit(config, gan, source, run, manager, callbacks)
                break
            except TrainingFailure as failure:
                prepare_recovery(config.guard, run, failure, worker.is_chief)
        wait_for_all(strategy, worker)  # whoever left before the chief has saved would take it along
    return run


def report_data(source, run):
    """Says what was found, and lays a sheet of captioned pictures and the names of the classes in the run folder.

    Args:
        source: `data.sources.Source`.
        run: `Run`.
    """
    print(describe(source))
    if source.class_names is not None:
        run.save_class_names(source.class_names)
    if not run.contact_sheet_path.exists():
        images, captions = contact_sheet_images(source, rows=10, columns=10)
        save_contact_sheet(images, captions, run.contact_sheet_path, 10, f"{source.name}, {source.split}")
    print(f"Look before you train: {run.contact_sheet_path}")


def fit(config, gan, source, run, manager, callbacks=()):
    """Trains to the last step, or until a signal.

    Args:
        config: `Config`.
        gan: Compiled SAGAN.
        source: `data.sources.Source`.
        run: `Run`.
        manager: tf.train.CheckpointManager; None: another worker writes, and this one nothing.
        callbacks: More Keras callbacks.
    """
    training, output = config.training, config.output
    start, left = int(gan.step.numpy()), training.steps - int(gan.step.numpy())
    if left <= 0:
        print(f"All {training.steps} steps are made: {run.path}")
        if is_missing(config, run, start):
            log = MetricsRecorder(run, writes=manager is not None)
            for evaluation in evaluation_callbacks(config, run, gan, source, log.append):
                evaluation.set_model(gan)
                evaluation.on_train_begin()
        return
    images_a_step = training.batch_size * training.d_steps * training.accumulation_steps
    dataset = make_dataset(
        source, images_a_step, seed=training.seed, start_step=start, flip=config.data.flip,
        dequantize=config.data.dequantize,
    )
    seeds, labels = grid_seeds(output.sample_rows, output.sample_columns, gan.num_classes)
    stop, progress = StopOnSignal(), Progress(training.steps)
    began = time.monotonic()
    writes = manager is not None
    guard = make_guard(config, gan, run)
    if writes:
        evaluations = functools.partial(evaluation_callbacks, config, run, gan, source)
        watching = recording_callbacks(
            config, run, manager, guard, images_a_step, seeds, labels, evaluations, callbacks
        )
    else:
        log = MetricsRecorder(run, writes=False)
        watching = [
            Metrics(log, output.log_interval, images_a_step, guard),
            *evaluation_callbacks(config, run, gan, source, log.append),
        ]
    with contextlib.closing(progress), contextlib.closing(stop), contextlib.suppress(EvaluationInterrupted):
        gan.fit(
            dataset, steps_per_epoch=left, shuffle=False, verbose=0,
            callbacks=[stop, *([progress] if writes else []), *watching],
        )
    done = int(gan.step.numpy())
    print(f"Made {done - start} steps in {time.monotonic() - began:.0f} s.")
    if stop.received:
        print(f"Stopped by {stop.received} at step {done} of {training.steps}, saved. The same command goes on.")
    elif writes:
        report_rule(gan, source)
    print(f"Samples: {run.sample_path(done)}\nReport: {run.report_path}\nGenerator: {run.generator_path}")


def make_guard(config, gan, run):
    """Makes what watches over a run.

    Args:
        config: `Config`.
        gan: SAGAN.
        run: `Run`, for what has been so far.

    Returns:
        Guard.
    """
    seeds, labels = grid_seeds(GROUPS, SAMPLES // GROUPS, gan.num_classes)
    before = [line.get("sample_diversity") or 0.0 for line in run.read_metrics()]
    latents = draw_latents_of(seeds, gan.latent_dim)
    return Guard(latents, labels, config.guard.on_collapse != "warn", tqdm.write, max(before, default=0.0))


def report_rule(gan, source, num_images=1000):
    """Says how often the averaged generator keeps the rule of an embedded data set; says nothing of other data.

    Args:
        gan: SAGAN.
        source: `data.sources.Source`.
        num_images: Pictures to generate.
    """
    if source.name not in embedded.NAMES:
        return
    seeds = np.arange(num_images)
    labels = None if gan.num_classes is None else seeds % gan.num_classes
    images = Sampler(gan.ema_generator, show_progress=False).sample(seeds, labels)
    found = rules.score(source.name, images, labels)
    chance = rules.chance_levels(source.name, image_size=source.image_size, channels=source.image_channels)
    chances = {name: f" (chance {value:.3f})" for name, value in chance.items() if name.endswith("_agreement")}
    shown = ", ".join(f"{name} {value:.3f}{chances.get(name, '')}" for name, value in found.items())
    seeds = f"seeds 0 to {num_images - 1}"
    print(f"Rule of {source.name}, {num_images} samples of the averaged generator, {seeds}: {shown}")
