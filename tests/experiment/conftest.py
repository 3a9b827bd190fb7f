"""Runs of the tests in this folder train on few embedded images."""

import contextlib
import dataclasses
import functools
import shutil
from pathlib import Path

import keras
import pytest
from tiny_runs import KeepModel, state_of, tiny_config
from toy_networks import toy_discriminator, toy_generator
from toy_networks import toy_networks as toy_networks

from sagan_tf.data import embedded
from sagan_tf.experiment import build, train
from sagan_tf.runs.folder import Run
from sagan_tf.training import SAGAN


@contextlib.contextmanager
def _small_embedded_data():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "SPLITS", {"train": 60, "test": 20})
        yield


@contextlib.contextmanager
def _quick_training(cache):
    with pytest.MonkeyPatch.context() as patch:
        for name, builder in (("build_generator", toy_generator), ("build_discriminator", toy_discriminator)):
            patch.setattr(build, name, functools.partial(_without_attention, builder))
        patch.setattr(SAGAN, "compile", functools.partialmethod(SAGAN.compile, run_eagerly=True))
        patch.setattr(train, "report_rule", lambda *_: None)
        patch.setenv("SAGAN_TF_CACHE", str(cache))
        yield


def _without_attention(builder, **options):
    return builder(**{**options, "attention_sizes": ()})


@pytest.fixture(scope="module", autouse=True)
def small_embedded_data():
    with _small_embedded_data():
        yield


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def quick_training(cache):
    """`train` makes toy networks without attention and runs eagerly; test_run_folder.py trains as users do."""
    with _quick_training(cache):
        yield


@pytest.fixture(scope="session")
def features(tmp_path_factory):
    """A feature network's file."""
    path = tmp_path_factory.mktemp("features") / "features.keras"
    keras.Sequential([
        keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 5, strides=4), keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(4, activation="softmax"),
    ]).save(path)  # fmt: skip
    return path


@dataclasses.dataclass(frozen=True)
class Trained:
    """An uninterrupted run of six steps, with checkpoints and evaluations at 2, 4 and 6.

    Args:
        run: Run.
        state: list of arrays, its final state as in `state_of`.
        features: Path of its feature network.
    """

    run: Run
    state: list
    features: Path

    def config(self, path, steps=6, **changes):
        """Its config, for another folder."""
        return tiny_config(
            path, steps, evaluation__interval=2, evaluation__num_samples=20, evaluation__split="test",
            evaluation__features=self.features, output__sample_interval=4, **changes,
        )  # fmt: skip

    def copy(self, path):
        shutil.copytree(self.run.path, path)
        return Run(path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, cache, features):
    with _small_embedded_data(), _quick_training(cache):
        keep, path = KeepModel(), tmp_path_factory.mktemp("trained") / "run"
        keras.utils.set_random_seed(0)
        run = train.train(Trained(Run(path), [], features).config(path), [keep])
        return Trained(run, state_of(keep), features)
