"""Runs of a few steps on embedded data, and comparison of two runs."""

import keras
import numpy as np

from sagan_tf.config import load_config


def tiny_flags(run, steps=4, **changes):
    """Flags of a tiny run; `changes` are further ones, such as `output__log_interval=2`."""
    flags = (
        "--generator.channels 8 --discriminator.channels 8 --training.batch_size 4 --output.log_interval 1 "
        "--output.sample_interval 2 --output.checkpoint_interval 2 --output.sample_rows 2 --output.sample_columns 3 "
        "--hardware.precision float32"
    )
    flags = ["--run", str(run), "--training.steps", str(steps), *flags.split()]
    for name, value in changes.items():
        flags += [f"--{name.replace('__', '.')}", str(value)]
    return flags


def tiny_config(run, steps=4, **changes):
    return load_config(tiny_flags(run, steps, **changes))


class StopAfter(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.step.numpy()) == self.step:
            raise Killed


class Killed(Exception):
    pass


class KeepModel(keras.callbacks.Callback):
    def on_train_end(self, logs=None):
        self.gan = self.model


class Poison(keras.callbacks.Callback):
    """Makes a weight NaN before the given steps, each once; records the learning rate of every start."""

    def __init__(self, *steps):
        super().__init__()
        self.steps, self.rates = list(steps), []

    def on_train_begin(self, logs=None):
        self.rates.append(float(self.model.generator_optimizer.learning_rate))

    def on_train_batch_begin(self, batch, logs=None):
        step = int(self.model.step.numpy())
        if step in self.steps:
            self.steps.remove(step)
            kernel = self.model.generator.trainable_variables[0]
            kernel.assign(kernel * np.nan)


def state_of(callback):
    gan = callback.gan
    variables = gan.variables + gan.generator_optimizer.variables + gan.discriminator_optimizer.variables
    return [np.array(v) for v in variables if "metric" not in v.path]


def untimed(run):
    return [{name: value for name, value in line.items() if name != "images_per_second"} for line in run.read_metrics()]
