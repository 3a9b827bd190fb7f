"""A run from its config to its folder; below this module nobody sees a Config."""

import math
import os
import time

import keras
import numpy as np
import tensorflow as tf

from sagan_tf.data import embedded, rules
from sagan_tf.data.pipeline import make_dataset
from sagan_tf.data.sources import class_distribution, contact_sheet_images, damage_named, describe, open_source
from sagan_tf.errors import UserError
from sagan_tf.networks import build_discriminator, build_generator
from sagan_tf.reports import write_report
from sagan_tf.runs import Run
from sagan_tf.training import SAGAN
from sagan_tf.training.callbacks import (
    AttentionPictures,
    Checkpoints,
    Metrics,
    Progress,
    Report,
    Samples,
    StopOnSignal,
)
from sagan_tf.training.distribution import make_strategy
from sagan_tf.training.gan import with_label
from sagan_tf.training.schedules import WarmupAndDecay
from sagan_tf.training.tensorboard import EventFile, TensorBoard, peak_memory_gib
from sagan_tf.viewing.grids import save_contact_sheet, to_levels

_ATTENDED = 3  # Pictures whose attention is drawn as training goes on.


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
    strategy = make_strategy(config.hardware.distribution, config.hardware.replicas)
    if config.hardware.jit_compile and strategy.num_replicas_in_sync > 1:
        raise UserError(
            f"hardware.jit_compile: works on one device, and here are {strategy.num_replicas_in_sync}; "
            "set hardware.distribution to single, or hardware.jit_compile to false."
        )
    with damage_named(config.data.name):
        return _train(config, strategy, callbacks)


def _train(config, strategy, callbacks):
    # A new run folder is not made for data that cannot be read; one that is there is checked before they are.
    source = None if os.path.exists(config.run) else open_data(config)
    with Run.create_or_resume(config.run, config) as run:
        source = source or open_data(config)
        report_data(source, run)
        with strategy.scope():
            gan = build_gan(config, source)
        manager = restore(gan, run, config.output.checkpoints_to_keep)
        fit(config, gan, source, run, manager, callbacks)
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
    """Says what was found, and lays a sheet of captioned pictures in the run folder.

    Args:
        source: `data.sources.Source`.
        run: `Run`.
    """
    print(describe(source))
    run.record_class_names(source.class_names)
    if not run.contact_sheet_path.exists():
        images, captions = contact_sheet_images(source, rows=10, columns=10)
        save_contact_sheet(images, captions, run.contact_sheet_path, 10, f"{source.name}, {source.split}")
    print(f"Look before you train: {run.contact_sheet_path}")


def build_gan(config, source):
    """Builds and compiles the SAGAN of a config, under the strategy in scope.

    Args:
        config: `Config`.
        source: `data.sources.Source`, for the number of classes and how often they occur.

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
        make_optimizer(config.generator_optimizer, training.steps),
        make_optimizer(config.discriminator_optimizer, training.steps * training.d_steps),
        loss=training.loss,
        d_steps=training.d_steps,
        accumulation_steps=training.accumulation_steps,
        r1_weight=training.r1_weight,
        r1_interval=training.r1_interval,
        jit_compile=hardware.jit_compile,
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


def make_optimizer(options, steps):
    """Makes Adam with its schedule.

    Args:
        options: `OptimizerConfig`.
        steps: Optimiser steps of the whole run, where a decay ends.

    Returns:
        keras.optimizers.Adam.
    """
    rate = options.learning_rate
    # A short trial of a long run's config ends before the decay starts.
    schedule = options.schedule if options.decay_start_step < steps else "constant"
    if schedule != "constant" or options.warmup_steps:
        end = max(steps, options.decay_start_step + 1)
        rate = WarmupAndDecay(
            rate, schedule, options.warmup_steps, options.decay_start_step, end, options.final_learning_rate
        )
    return keras.optimizers.Adam(rate, beta_1=options.beta_1, beta_2=options.beta_2, epsilon=options.epsilon)


def restore(gan, run, checkpoints_to_keep):
    """Restores the newest checkpoint of a run, if there is one, and takes back later lines of the metrics file.

    Args:
        gan: Compiled SAGAN; it gets the weights, optimiser slots and step of the checkpoint.
        run: `Run`.
        checkpoints_to_keep: Newest checkpoints kept from now on.

    Returns:
        tf.train.CheckpointManager.

    Raises:
        UserError: The disk has no room for the checkpoints, or the checkpoint is of other networks.
    """
    checkpoint = tf.train.Checkpoint(model=gan)
    manager = tf.train.CheckpointManager(checkpoint, str(run.checkpoints_path), max_to_keep=checkpoints_to_keep)
    state = gan.variables + gan.generator_optimizer.variables + gan.discriminator_optimizer.variables
    size = sum(4 * math.prod(v.shape) for v in state)  # bytes, float32
    run.check_space((checkpoints_to_keep + 1 - len(manager.checkpoints)) * size)
    if manager.latest_checkpoint:
        try:
            checkpoint.restore(manager.latest_checkpoint).assert_consumed()
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{manager.latest_checkpoint}: cannot be restored into these networks: {reason}") from None
        print(f"Going on from step {int(gan.step.numpy())}: {manager.latest_checkpoint}")
    run.truncate_metrics_after(int(gan.step.numpy()))
    return manager


def fit(config, gan, source, run, manager, callbacks=()):
    """Trains to the last step, or until a signal.

    Args:
        config: `Config`.
        gan: Compiled SAGAN.
        source: `data.sources.Source`.
        run: `Run`.
        manager: tf.train.CheckpointManager.
        callbacks: More Keras callbacks.
    """
    training, output = config.training, config.output
    start, left = int(gan.step.numpy()), training.steps - int(gan.step.numpy())
    if left <= 0:
        print(f"All {training.steps} steps are made: {run.path}")
        return
    images_a_step = training.batch_size * training.d_steps * training.accumulation_steps
    dataset = make_dataset(
        source, images_a_step, seed=training.seed, start_step=start, flip=config.data.flip,
        dequantize=config.data.dequantize,
    )
    latent, label = fixed_latents(gan, output.sample_rows, output.sample_columns, training.seed)
    rows = slice(0, _ATTENDED * output.sample_columns, output.sample_columns)  # the first of each row
    few = (latent[rows], None if label is None else label[rows])
    events = EventFile(run.tensorboard_path)
    pictures = {"samples": run.sample_path, "attention": run.attention_picture_path}

    def record(line):
        run.append_metrics(line)
        if output.tensorboard != "none":
            values = {name: value for name, value in line.items() if name != "step"}
            events.scalars(line["step"], values | peak_memory_gib())

    stop = StopOnSignal()
    resume = f"The last good checkpoint is in {run.checkpoints_path}."
    began = time.monotonic()
    gan.fit(
        dataset,
        steps_per_epoch=left,
        shuffle=False,
        verbose=0,
        callbacks=[
            stop,
            Progress(training.steps),
            Metrics(record, output.log_interval, images_a_step, resume),
            Samples(run.sample_path, output.sample_interval, latent, label, output.sample_columns),
            AttentionPictures(run.attention_picture_path, output.sample_interval, *few),
            TensorBoard(events, output.tensorboard, output.sample_interval, pictures),
            *callbacks,
            Checkpoints(manager, output.checkpoint_interval, run.generator_path),
            Report(lambda: write_report([run], run.report_path), output.sample_interval),
        ],
    )
    done = int(gan.step.numpy())
    print(f"Made {done - start} steps in {time.monotonic() - began:.0f} s.")
    if stop.received:
        print(f"Stopped by {stop.received} at step {done} of {training.steps}, saved. The same command goes on.")
    else:
        report_rule(gan, source, training.seed)
    print(f"Samples: {run.sample_path(done)}\nReport: {run.report_path}\nGenerator: {run.generator_path}")


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
    generate = tf.function(lambda inputs: gan(inputs, training=False))
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
