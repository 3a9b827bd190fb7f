"""Run folders as after training, written in a second: small networks with random weights, checkpoints, metrics."""

import atexit
import dataclasses
import functools
import os
import shutil
import tempfile

import numpy as np
import tensorflow as tf

from sagan_tf.config import QUICK_START, HardwareConfig, save_config
from sagan_tf.experiment import build
from sagan_tf.experiment.checkpoints import make_checkpoint
from sagan_tf.generation.saving import save_generator
from sagan_tf.layers import SelfAttention
from sagan_tf.runs.folder import Run
from sagan_tf.training import SAGAN
from sagan_tf.viewing.image_grids import save_grid

KINDS = ("disc", "ring", "square", "cross")


def make_run(path, steps=(100, 200), conditional=True, attention_sizes=(8, 16), data="twins", seed=0):
    """Writes a run folder; those that differ in path and data only are copies of one.

    Args:
        path: Of the folder.
        steps: Steps with a checkpoint; the weights differ from one to the next.
        conditional: Give the networks four classes.
        attention_sizes: Of both networks.
        data: Name of the data set.
        seed: int, of the weights.

    Returns:
        Run.
    """
    builders = build.build_generator, build.build_discriminator  # tests replace them
    template = _template(tuple(steps), conditional, tuple(attention_sizes), seed, builders)
    run = Run(shutil.copytree(template.path, path, dirs_exist_ok=True))
    config = template.config()
    config = dataclasses.replace(config, run=str(path), data=dataclasses.replace(config.data, name=data))
    save_config(config, run.config_path)
    return run


@functools.cache
def _template(steps, conditional, attention_sizes, seed, builders):
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = os.path.join(folder, "run")
    small = dict(channels=4, attention_sizes=attention_sizes)
    config = dataclasses.replace(
        QUICK_START,
        run=path,
        data=dataclasses.replace(QUICK_START.data, conditional=conditional),
        generator=dataclasses.replace(QUICK_START.generator, latent_dim=12, **small),
        discriminator=dataclasses.replace(QUICK_START.discriminator, **small),
        attention=dataclasses.replace(QUICK_START.attention, key_reduction=4),
        hardware=HardwareConfig(),
    )
    gan = SAGAN(*build.build_networks(config, len(KINDS) if conditional else None), ema_decay=config.training.ema_decay)
    gan.compile()
    rng = np.random.default_rng(seed)
    with Run.create_or_resume(path, config) as run:
        checkpoint = make_checkpoint(gan)
        manager = tf.train.CheckpointManager(checkpoint, str(run.checkpoints_path), max_to_keep=None)
        if conditional:
            run.save_class_names(KINDS)
        for step in steps:
            _move(gan, rng)
            gan.step.assign(step)
            manager.save(checkpoint_number=step)
            run.metrics_log.append(_metrics(gan, step))
            save_grid(rng.integers(0, 255, (4, 32, 32, 3), dtype=np.uint8), run.sample_path(step), 2)
        save_generator(gan.ema_generator, run.generator_path, {"step": steps[-1]} if steps else {})
    return run


def once(function):
    """A function that calls another once for each first argument, by its identity."""
    results = {}

    def call(argument, **options):
        if id(argument) not in results:
            results[id(argument)] = argument, function(argument, **options)  # kept, so that no other gets its id
        return results[id(argument)][1]

    return call


def _move(gan, rng):
    """Draws new values for all weights, smaller ones for kernels to avoid saturated images; gamma is not 0."""
    for network in (gan.ema_generator, gan.discriminator):
        for weight in network.weights:
            value = weight.numpy()
            if "moving_variance" in weight.path:
                weight.assign(rng.uniform(0.5, 2, value.shape))
            elif weight.dtype == "float32":
                weight.assign(value + (0.1 if "kernel" in weight.path else 0.3) * rng.standard_normal(value.shape))
        for layer in network.layers:
            if isinstance(layer, SelfAttention):
                layer.gamma.assign(0.7)


def _metrics(gan, step):
    line = {"step": step, "images": 32 * step, "d_loss": 1.5, "g_loss": 0.1, "real_logit": 0.3, "fake_logit": -0.2}
    line |= {"d_accuracy": 0.6, "images_per_second": 250.0, "generator_learning_rate": 1e-3}
    for letter, network in (("g", gan.generator), ("d", gan.discriminator)):
        for layer in network.layers:
            if isinstance(layer, SelfAttention):
                line[f"gamma/{letter}/{layer.name}"] = 0.001 * step
                line[f"sigma/{letter}/{layer.name}/query"] = 1.5
    return line
