"""Trains a run from its config: the whole program."""

import contextlib
import os
import time
from collections.abc import Sequence

import keras
import numpy as np

from sagan_tf.config import Config
from sagan_tf.config.checks import flat_fields
from sagan_tf.config.differences import as_yaml
from sagan_tf.data import embedded, rules
from sagan_tf.data.fingerprint import portable_fingerprint
from sagan_tf.data.pipeline import make_dataset
from sagan_tf.data.prepared import is_prepared
from sagan_tf.data.sources import contact_sheet_images, describe, open_source, translate_data_errors
from sagan_tf.errors import UserError
from sagan_tf.experiment.build import build_gan
from sagan_tf.experiment.callbacks import MetricsRecorder, make_callbacks
from sagan_tf.experiment.checkpoints import make_manager, restore_latest
from sagan_tf.experiment.divergence import prepare_recovery, rate_factor
from sagan_tf.experiment.online_evaluation import EvaluationInterrupted, OnlineEvaluation, is_evaluation_missing
from sagan_tf.experiment.precision import resolve_precision
from sagan_tf.experiment.preflight import (
    check_devices,
    check_memory,
    translate_memory_errors,
    warn_of_short_average,
)
from sagan_tf.experiment.start import prepare_start, write_start
from sagan_tf.generation.sampler import Sampler
from sagan_tf.runs.data_check import check_data, check_number_of_classes
from sagan_tf.runs.folder import Run
from sagan_tf.runs.portable import PATH_FIELDS
from sagan_tf.runs.report import write_report
from sagan_tf.training.callbacks import Progress
from sagan_tf.training.distribution import make_strategy, prefetch_to_device, set_numerics
from sagan_tf.training.guard import TrainingFailure
from sagan_tf.training.signals import StopOnSignal, end_on_signal
from sagan_tf.training.workers import (
    check_same,
    check_same_step,
    read_worker,
    silence_unless,
    translate_lost_worker_errors,
    wait_for_all,
)
from sagan_tf.viewing.image_grids import save_contact_sheet

_LESS_MEMORY = (
    "Choose a smaller training.batch_size; training.accumulation_steps keeps the number of images per update."
)


def train(config: Config, callbacks: Sequence[keras.callbacks.Callback] = (), allow_data_change: bool = False) -> Run:
    """Trains a run, or resumes one.

    Args:
        config: `Config`.
        callbacks: Further Keras callbacks.
        allow_data_change: bool. Resume with data that are not those of the run so far.

    Returns:
        Run.

    Raises:
        TypeError: It is not a `Config`.
        UserError: The data, the run folder, the memory or the devices do not allow it, or training failed.
    """
    if not isinstance(config, Config):
        example = "sagan_tf.config.load_config(['--config', 'cifar10'])"
        raise TypeError(f"`config` must be a Config, such as `{example}`. Received: {config!r}.")
    check_memory(config)
    worker = read_worker()
    set_numerics(config.hardware.tf32, config.hardware.deterministic)
    strategy = make_strategy(config.hardware.distribution, config.hardware.replicas, config.hardware.wait_minutes)
    is_compiled = check_devices(config, strategy)
    with (
        translate_data_errors(config.data.name),
        translate_lost_worker_errors(worker),
        translate_memory_errors(_LESS_MEMORY),
        silence_unless(worker.is_chief),
    ):
        config = resolve_precision(config)
        with end_on_signal(worker):
            check_same_config(config, strategy, worker)
        return _train_in_folder(config, strategy, worker, callbacks, allow_data_change, is_compiled)


def check_same_config(config, strategy, worker):
    """Raises UserError if the workers have different configs; paths may differ."""
    values = {key: value for key, value in flat_fields(config) if key not in PATH_FIELDS}
    advice = "Start all with the same config and flags; on unlike machines, set hardware.precision to other than auto."
    check_same(strategy, worker, values, advice)


def _train_in_folder(config, strategy, worker, callbacks, allow_data_change, is_compiled):
    _check_place(config)
    # Data or weights that cannot be read leave no new run folder; an existing folder is checked before its data.
    is_new = config.run is not None and not os.path.exists(config.run)
    source = open_source(config.data) if is_new else None
    start = prepare_start(config, source) if is_new and worker.is_chief else None
    with Run.lock(config.run, config) if worker.is_chief else Run(config.run) as run:
        source = source or open_source(config.data)
        fingerprint = portable_fingerprint(source)
        with end_on_signal(worker):
            check_same(strategy, worker, {"data": {**fingerprint, "name": None}}, "Copy the same data to all machines.")
        if worker.is_chief:
            # In a folder without a checkpoint: empty, or of a run that was killed before it had one.
            start = None if run.checkpoint_steps() else start or prepare_start(config, source)
            start_run(config, run, source, fingerprint, allow_data_change, is_compiled)
            if start is not None:
                write_start(start, config, run)
                del start
        while True:
            with end_on_signal(worker):
                wait_for_all(strategy, worker)  # until the chief has made the folder and recorded a recovery
            num_recoveries = len(run.recoveries())
            with strategy.scope():
                gan = build_gan(config, source, rate_factor(run))
            restore_latest(gan, run)
            with end_on_signal(worker):
                # A worker that does not see the checkpoint of step 0 lacks the weights that the run starts from.
                check_same_step(strategy, worker, int(gan.step.numpy()) if run.checkpoint_steps() else None)
            manager = make_manager(gan, run, config.output.checkpoints_to_keep) if worker.is_chief else None
            with end_on_signal(worker):
                wait_for_all(strategy, worker)  # until the chief has removed the metrics of later steps
            try:
                run.stopped_by = fit(config, gan, source, run, manager, callbacks)
                break
            except TrainingFailure as failure:
                prepare_recovery(config.guard, run, failure, num_recoveries, worker.is_chief)
        wait_for_all(strategy, worker)  # a worker that ended before the chief has saved would end the chief too
    return run


def _check_place(config):
    """Raises UserError for a run folder among the classes of the data: its own images would be some of them."""
    folder = config.data.name
    if config.run is None or folder in embedded.NAMES or not os.path.isdir(folder) or is_prepared(folder):
        return
    folders = (os.path.realpath(path) for path in (folder, os.path.join(folder, config.data.split)))
    if os.path.dirname(os.path.realpath(config.run)) in folders:
        raise UserError(
            f"{config.run}: is in the folder of the data, {folder}, which the run could not be resumed with. Choose "
            "another folder with --run."
        )


def start_run(config, run, source, fingerprint, allow_data_change, is_compiled):
    """Checks the data of a run that resumes, and writes to the run folder what is known before the first step."""
    if run.config_path.exists():
        if allow_data_change:
            check_number_of_classes(run, fingerprint)
        check_data(run, fingerprint, allow_data_change)
        _check_steps(config, run)
    run.record_start(config, is_compiled)
    report_data(source, run, is_new=run.fingerprint() != fingerprint)
    run.save_fingerprint(fingerprint)
    warn_of_short_average(config.training)
    print(f"XLA: {'on' if is_compiled else 'off'} (hardware.jit_compile: {as_yaml(config.hardware.jit_compile)})")


def _check_steps(config, run):
    """Raises UserError for steps that a run cannot continue with; says that another end moves the learning rates."""
    steps, newest = config.training.steps, max(run.checkpoint_steps(), default=0)
    if steps < newest:
        raise UserError(f"training.steps: must be at least {newest}, which the run has made. Got {steps}.")
    if newest < steps:
        _check_divides(config.hardware.steps_per_execution, newest)
    schedules = {config.generator_optimizer.schedule, config.discriminator_optimizer.schedule}
    if (old := run.config().training.steps) != steps and schedules != {"constant"}:
        print(f"Note: learning rates that fell until step {old} fall until step {steps} now: they jump.")


def _check_divides(steps_per_execution, step):
    """Raises UserError if no call would end at a step where a line, a checkpoint or the end is due."""
    if step % steps_per_execution:
        raise UserError(
            f"hardware.steps_per_execution: must divide {step}, the step from which the run continues, as 1 does. "
            f"Got {steps_per_execution}."
        )


def report_data(source, run, is_new):
    """Prints what the data set holds; writes its class names and, if it is new to the run, its contact sheet."""
    print(describe(source))
    if source.class_names is not None:
        run.save_class_names(source.class_names)
    if is_new or not run.contact_sheet_path.exists():
        images, captions = contact_sheet_images(source, rows=10, columns=10)
        save_contact_sheet(images, captions, run.contact_sheet_path, 10, f"{source.name}, {source.split}")
    print(f"Look before you train: {run.contact_sheet_path}")


def fit(config, gan, source, run, manager, callbacks=()):
    """Trains to the last step, or until a signal.

    Args:
        config: `Config`.
        gan: Compiled SAGAN, restored.
        source: `data.sources.Source`.
        run: `Run`.
        manager: tf.train.CheckpointManager; None on workers other than the chief, which write nothing.
        callbacks: Further Keras callbacks.

    Returns:
        str, the name of the signal that stopped training, or None.

    Raises:
        TrainingFailure: Training diverged, or collapsed where that stops it.
        UserError: The run continues from a step that `hardware.steps_per_execution` does not divide.
    """
    training, is_chief = config.training, manager is not None
    start_step = int(gan.step.numpy())
    if start_step >= training.steps:
        print(f"All {training.steps} steps are done: {run.path}")
        if is_evaluation_missing(config, run, start_step):
            log = MetricsRecorder(run.metrics_log, writes=is_chief)
            OnlineEvaluation(config, run, gan, source, log).make_missing(gan)
            if is_chief:
                write_report([run], run.report_path)
        return None
    _check_divides(config.hardware.steps_per_execution, start_step)
    dataset = make_dataset(source, training.images_per_step, seed=training.seed, start_step=start_step)
    dataset = prefetch_to_device(dataset, gan.distribute_strategy)
    stop, progress, started_at = StopOnSignal(), Progress(training.steps), time.monotonic()
    shown = [stop, progress] if is_chief else [stop]
    chosen = [*shown, *make_callbacks(config, run, gan, source, manager, callbacks)]
    steps_left = training.steps - start_step
    with contextlib.closing(progress), contextlib.closing(stop), contextlib.suppress(EvaluationInterrupted):
        try:
            gan.fit(dataset, steps_per_epoch=steps_left, shuffle=False, verbose=0, callbacks=chosen)
        except TrainingFailure as failure:
            if not stop.received:
                raise
            print(f"Stopped by {stop.received}, without saving: {failure}")
            return stop.received
    step = int(gan.step.numpy())
    print(f"Made {step - start_step} steps in {time.monotonic() - started_at:.0f} s.")
    if stop.received:
        print(f"Stopped by {stop.received} at step {step} of {training.steps}, saved. The same command continues.")
    elif is_chief:
        report_rule(gan, source)
    print(f"Samples: {run.sample_path(step)}\nReport: {run.report_path}\nGenerator: {run.generator_path}")
    return stop.received


def report_rule(gan, source, num_images=1000):
    """Prints how often samples of the averaged generator follow the rule of an embedded data set."""
    if source.name not in embedded.NAMES:
        return
    seeds = np.arange(num_images)
    labels = None if gan.num_classes is None else seeds % gan.num_classes
    images = Sampler(gan.ema_generator, show_progress=False).sample(seeds, labels)
    scores = rules.score(source.name, images, labels)
    scores = {name: value for name, value in scores.items() if np.isfinite(value)}  # of shapes that were found
    size, _, channels = source.image_shape
    chance = rules.chance_levels(source.name, image_size=size, channels=channels)
    chances = {name: f" (chance {value:.3f})" for name, value in chance.items() if name.endswith("_agreement")}
    text = ", ".join(f"{name} {value:.3f}{chances.get(name, '')}" for name, value in scores.items())
    print(f"Rule of {source.name}, {num_images} samples of the averaged generator, seeds 0 to {num_images - 1}: {text}")
