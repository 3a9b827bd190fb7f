"""A run from its config to its folder; below this module nobody sees a Config."""

import contextlib
import functools
import math
import os
import time

import keras
import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from sagan_tf.data import embedded, rules
from sagan_tf.data.pipeline import make_dataset
from sagan_tf.data.sources import class_distribution, contact_sheet_images, damage_named, describe, open_source
from sagan_tf.errors import UserError
from sagan_tf.evaluated_training import evaluation_callbacks, is_missing
from sagan_tf.needs import check_devices, check_memory, exhaustion_named
from sagan_tf.networks import build_discriminator, build_generator
from sagan_tf.recording import recording_callbacks, write_nothing
from sagan_tf.recovery import prepare_recovery, rate_factor
from sagan_tf.run_files import read_unfinished_line
from sagan_tf.runs import Run
from sagan_tf.training import SAGAN
from sagan_tf.training.adam import FusedAdam
from sagan_tf.training.callbacks import Metrics, Progress, StopOnSignal
from sagan_tf.training.distribution import make_strategy
from sagan_tf.training.evaluations import BrokenOff
from sagan_tf.training.gan import with_label
from sagan_tf.training.guard import GROUPS, SAMPLES, Guard, Trouble
from sagan_tf.training.schedules import WarmupAndDecay
from sagan_tf.training.workers import (
    check_same_step,
    loss_of_workers_named,
    read_worker,
    silence_unless,
    wait_for_all,
)
from sagan_tf.viewing.grids import save_contact_sheet, to_levels


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
    replicas = strategy.num_replicas_in_sync
    if config.training.batch_size % replicas:
        raise UserError(
            f"training.batch_size: {config.training.batch_size} cannot be split evenly over {replicas} replicas; "
            f"make it a multiple of {replicas}."
        )
    with (
        damage_named(config.data.name), loss_of_workers_named(worker), exhaustion_named(),
        silence_unless(worker.is_chief),
    ):  # fmt: skip
        return _train(config, strategy, worker, callbacks)


def _train(config, strategy, worker, callbacks):
    # A new run folder is not made for data that cannot be read; one that is there is checked before they are.
    source = None if os.path.exists(config.run) else open_data(config)
    with Run.create_or_resume(config.run, config) if worker.is_chief else Run(config.run) as run:
        source = source or open_data(config)
        if worker.is_chief:
            report_data(source, run)
        while True:
            wait_for_all(strategy, worker)  # the folder is there now, with all recoveries
            with strategy.scope():
                gan = build_gan(config, source, rate_factor(run))
            restore(gan, run)
            check_same_step(strategy, worker, int(gan.step.numpy()))
            manager = make_manager(gan, run, config.output.checkpoints_to_keep) if worker.is_chief else None
            try:
                fit(config, gan, source, run, manager, callbacks)
                break
            except Trouble as trouble:
                prepare_recovery(config.guard, run, trouble, worker.is_chief)
        wait_for_all(strategy, worker)  # whoever left before the chief has saved would take it along
    return run


def open_data(config):
    """Opens the data set of a config; see `data.sources.open_source`."""
    data = config.data
    return open_source(
        data.name,
        data.split,
        data_dir=data.data_dir,
        manual_dir=data.manual_dir,
        download=data.download,
        image_size=data.image_size,
        image_channels=data.image_channels,
        conditional=data.conditional,
        resize=data.resize,
        corrupt=data.corrupt,
        memory_limit_gib=data.memory_limit_gib,
        shuffle_buffer=data.shuffle_buffer,
        seed=config.training.seed,
    )


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


def build_gan(config, source, rate_factor=1.0):
    """Builds and compiles the SAGAN of a config, under the strategy in scope.

    Args:
        config: `Config`.
        source: `data.sources.Source`, for the number of classes and how often they occur.
        rate_factor: float, what the learning rates are multiplied by.

    Returns:
        SAGAN with freshly drawn weights.
    """
    training, hardware = config.training, config.hardware
    keras.utils.set_random_seed(training.seed)
    generator, discriminator = build_networks(config, source.num_classes)
    from_data = training.fake_labels == "data" and source.num_classes is not None
    gan = SAGAN(
        generator,
        discriminator,
        ema_decay=training.ema_decay,
        ema_start_step=training.ema_start_step,
        label_distribution=class_distribution(source) if from_data else None,
        augmentation=training.augmentation,
        seed=training.seed,
    )
    gan.compile(
        make_optimizer(config.generator_optimizer, training.steps, rate_factor),
        make_optimizer(config.discriminator_optimizer, training.steps * training.d_steps, rate_factor),
        loss=training.loss,
        d_steps=training.d_steps,
        accumulation_steps=training.accumulation_steps,
        r1_weight=training.r1_weight,
        r1_interval=training.r1_interval,
        share_fake_batch=training.share_fake_batch,
        jit_compile=hardware.jit_compile,
        native_operations=hardware.native_operations,
        steps_per_execution=hardware.steps_per_execution,
    )
    return gan


def build_networks(config, num_classes):
    """Builds generator and discriminator of a config.

    Args:
        config: `Config`.
        num_classes: int, or None without labels.

    Returns:
        (generator, discriminator), keras.Models.
    """
    attention, generator, discriminator = config.attention, config.generator, config.discriminator
    options = {name: value for name, value in vars(attention).items() if name != "block"}
    shared = dict(
        image_size=config.data.image_size,
        image_channels=config.data.image_channels,
        num_classes=num_classes,
        attention_block=attention.block,
        attention_options=options,
        dtype=config.hardware.precision,
    )
    return (
        build_generator(**shared, **vars(generator)),
        build_discriminator(**shared, **vars(discriminator)),
    )


def make_optimizer(options, steps, rate_factor=1.0):
    """Makes Adam with its schedule.

    Args:
        options: `OptimizerConfig`.
        steps: Optimiser steps of the whole run, where a decay ends.
        rate_factor: float, what all its learning rates are multiplied by.

    Returns:
        FusedAdam.
    """
    rate, final = options.learning_rate * rate_factor, options.final_learning_rate * rate_factor
    # A short trial of a long run's config ends before the decay starts.
    schedule = options.schedule if options.decay_start_step < steps else "constant"
    if schedule != "constant" or options.warmup_steps:
        end = max(steps, options.decay_start_step + 1)
        rate = WarmupAndDecay(rate, schedule, options.warmup_steps, options.decay_start_step, end, final)
    return FusedAdam(rate, beta_1=options.beta_1, beta_2=options.beta_2, epsilon=options.epsilon)


def restore(gan, run):
    """Restores the newest checkpoint of a run that can be read, if there is one.

    A damaged one, or one of other networks, is named, and the one before is taken.

    Args:
        gan: Compiled SAGAN; it gets the weights, optimiser slots and step of the checkpoint.
        run: `Run`.

    Raises:
        UserError: There are checkpoints, and none can be restored.
    """
    paths = run.checkpoints()
    # A constant rate is a variable and comes back with the rest; after a recovery it is another one.
    optimizers = gan.generator_optimizer, gan.discriminator_optimizer
    rates = [optimizer.get_config()["learning_rate"] for optimizer in optimizers]
    for path in paths:
        try:
            tf.train.Checkpoint(model=gan).restore(path).assert_consumed()
        except Exception as error:  # damaged bytes make the reader raise anything, an IndexError among others
            reason = " ".join(str(error).split())[:200]
            print(f"{path}: cannot be restored into these networks, the one before is tried: {reason}")
            continue
        for optimizer, rate in zip(optimizers, rates):
            if isinstance(rate, float):
                optimizer.learning_rate = rate
        print(f"Going on from step {int(gan.step.numpy())}: {path}")
        return
    if paths:
        raise UserError(
            f"{paths[0]}: neither it nor any checkpoint before it can be restored: {reason} Move them away to begin "
            "anew, or choose another folder with --run."
        )


def make_manager(gan, run, checkpoints_to_keep):
    """Makes what writes the checkpoints of a run from the step on that it stands at; takes back what is later.

    Args:
        gan: Compiled SAGAN.
        run: `Run`.
        checkpoints_to_keep: Newest checkpoints kept from now on.

    Returns:
        tf.train.CheckpointManager.

    Raises:
        UserError: The disk has no room for the checkpoints.
    """
    step, paths = int(gan.step.numpy()), run.checkpoints()
    state = gan.variables + gan.generator_optimizer.variables + gan.discriminator_optimizer.variables
    size = sum(4 * math.prod(v.shape) for v in state)  # bytes, float32
    run.check_space((checkpoints_to_keep + 1 - len(paths)) * size)
    run.truncate_metrics_after(step)
    run.remove_unfinished()
    kept = [path for path in reversed(paths) if int(path.rpartition("-")[2]) <= step]
    if kept:
        # TensorFlow's own list may be gone, older than the files, or name one that cannot be read. Without their times
        # it would keep the old ones for ever.
        times = [os.path.getmtime(f"{path}.index") for path in kept]
        tf.compat.v1.train.update_checkpoint_state(
            str(run.checkpoints_path), kept[-1], kept, all_model_checkpoint_timestamps=times
        )
    return tf.train.CheckpointManager(
        tf.train.Checkpoint(model=gan), str(run.checkpoints_path), max_to_keep=checkpoints_to_keep
    )


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
            record = run.append_metrics if manager is not None else write_nothing
            for evaluation in evaluation_callbacks(config, run, gan, source, record):
                evaluation.set_model(gan)
                evaluation.on_train_begin()
        return
    images_a_step = training.batch_size * training.d_steps * training.accumulation_steps
    dataset = make_dataset(
        source, images_a_step, seed=training.seed, start_step=start, flip=config.data.flip,
        dequantize=config.data.dequantize,
    )
    latent, label = fixed_latents(gan, output.sample_rows, output.sample_columns, training.seed)
    stop, progress = StopOnSignal(), Progress(training.steps)
    began = time.monotonic()
    writes = manager is not None
    guard = make_guard(config, gan, run)
    if writes:
        evaluations = functools.partial(evaluation_callbacks, config, run, gan, source)
        watching = recording_callbacks(
            config, run, manager, guard, images_a_step, latent, label, evaluations, callbacks
        )
    else:
        carried = read_unfinished_line(run.unfinished_line_path)
        watching = [
            Metrics(write_nothing, output.log_interval, images_a_step, guard, carried),
            *evaluation_callbacks(config, run, gan, source, write_nothing),
        ]
    with contextlib.closing(progress), contextlib.closing(stop), contextlib.suppress(BrokenOff):
        gan.fit(
            dataset, steps_per_epoch=left, shuffle=False, verbose=0,
            callbacks=[stop, *([progress] if writes else []), *watching],
        )
    done = int(gan.step.numpy())
    print(f"Made {done - start} steps in {time.monotonic() - began:.0f} s.")
    if stop.received:
        print(f"Stopped by {stop.received} at step {done} of {training.steps}, saved. The same command goes on.")
    elif writes:
        report_rule(gan, source, training.seed)
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
    latent, label = fixed_latents(gan, GROUPS, SAMPLES // GROUPS, config.training.seed)
    before = [line.get("sample_diversity") or 0.0 for line in run.read_metrics()]
    return Guard(latent, label, config.guard.on_collapse != "warn", tqdm.write, max(before, default=0.0))


def report_rule(gan, source, seed, num_images=1000):
    """Says how often the averaged generator keeps the rule of an embedded data set; says nothing of other data.

    Args:
        gan: SAGAN.
        source: `data.sources.Source`.
        seed: int, of the latents.
        num_images: Pictures to generate.
    """
    if source.name not in embedded.NAMES:
        return
    latent, label = fixed_latents(gan, num_images, 1, seed + 1)
    generate = tf.function(lambda inputs: gan(inputs, training=False), autograph=False)
    parts = [slice(start, start + 100) for start in range(0, num_images, 100)]
    images = [generate(with_label(latent[part], None if label is None else label[part])) for part in parts]
    images = to_levels(np.concatenate([batch.numpy() for batch in images]))
    found = rules.score(source.name, images, label)
    chance = rules.chance_levels(source.name, image_size=source.image_size, channels=source.image_channels)
    chances = {name: f" (chance {value:.3f})" for name, value in chance.items() if name.endswith("_agreement")}
    shown = ", ".join(f"{name} {value:.3f}{chances.get(name, '')}" for name, value in found.items())
    print(f"Rule of {source.name}, {num_images} samples of the averaged generator, seed {seed + 1}: {shown}")


def fixed_latents(gan, rows, columns, seed):
    """Draws the latents of the sample pictures, the same for every step.

    Args:
        gan: SAGAN.
        rows, columns: ints, of the picture; with classes, a row a class in order.
        seed: int.

    Returns:
        (latent (rows*columns, D) float32 ~ N(0, 1), label (rows*columns,) int32 or None).
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, 1]))
    latent = generator.standard_normal((rows * columns, gan.latent_dim), dtype=np.float32)
    if gan.num_classes is None:
        return latent, None
    return latent, np.repeat(np.arange(rows) % gan.num_classes, columns).astype(np.int32)
