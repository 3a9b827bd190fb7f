"""Runs of a few steps on the embedded pictures, and what tells whether two of them are the same."""

import keras
import numpy as np
import pytest

from sagan_tf.config import load_config


@pytest.fixture(autouse=True)
def small_embedded_data(monkeypatch):
    shrink_embedded_data(monkeypatch)


def shrink_embedded_data(monkeypatch):
    from sagan_tf.data import embedded

    monkeypatch.setattr(embedded, "SPLITS", {"train": 60, "test": 20})


def tiny_config(run, steps=4, **changes):
    flags = [
        "--run", str(run), "--generator.channels", "8", "--discriminator.channels", "8", "--training.batch_size", "4",
        "--training.steps", str(steps), "--output.log_interval", "1", "--output.sample_interval", "2",
        "--output.checkpoint_interval", "2", "--output.sample_rows", "2", "--output.sample_columns", "3",
    ]
    for name, value in changes.items():
        flags += [f"--{name.replace('__', '.')}", str(value)]
    return load_config(flags)


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


def state_of(callback):
    gan = callback.gan
    variables = gan.variables + gan.generator_optimizer.variables + gan.discriminator_optimizer.variables
    return [np.array(v) for v in variables if "metric" not in v.path]


def untimed(run):
    return [{name: value for name, value in line.items() if name != "images_per_second"} for line in run.read_metrics()]
