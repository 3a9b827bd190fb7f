"""Runs of toy networks, which the commands restore and trace once for the tests of a file."""

import functools

import keras
import pytest
from small_runs import make_run, once
from toy_networks import toy_networks as toy_networks

from sagan_tf.commands import attention_results, evaluate, sample
from sagan_tf.data import embedded
from sagan_tf.evaluation.evaluator import Evaluator
from sagan_tf.experiment.loading import restore_networks
from sagan_tf.files.hashing import sha256


@pytest.fixture(scope="module", autouse=True)
def shared_networks():
    """`restore_networks` of the same files and step gives the same networks, with the weights of the first time."""
    restored = {}

    def restore(run, step=None, discriminator=False, best=False):
        steps = run.checkpoint_steps()
        files = [*run.path.glob("*.keras"), *run.checkpoints_path.glob("ckpt-*")]
        newest = steps[-1] if discriminator and steps else None
        key = (*sorted((path.name, sha256(path)) for path in files), step or newest, discriminator, best)
        if key not in restored:
            networks = restore_networks(run, step, discriminator, best)
            restored[key] = networks, networks.generator.get_weights()
        networks, weights = restored[key]
        networks.generator.set_weights(weights)  # `sagan evaluate --standing` sets others
        return networks

    with pytest.MonkeyPatch.context() as patch:
        for module in (attention_results, evaluate, sample):
            patch.setattr(module, "restore_networks", restore)
        for module, name in ((sample, "fold_generator"), (sample, "Sampler"), (attention_results, "AttentionProbe")):
            patch.setattr(module, name, once(getattr(module, name)))
        yield


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def features(tmp_path_factory):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(8, 5, strides=3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(name="pool"),
            keras.layers.Dense(4, activation="softmax", name="classes"),
        ]
    )
    path = tmp_path_factory.mktemp("features") / "small.keras"
    model.save(path)
    return str(path)


@pytest.fixture(scope="session")
def evaluators():
    """Folded generators by their weights, samplers by their networks, feature networks by their files."""
    return {}, {}, functools.cache(evaluate.open_features)


@pytest.fixture(scope="module")
def shared_evaluators(evaluators):
    """Generators of the same weights are folded, feature networks opened, and both traced, once."""
    folded, samplers, open_once = evaluators
    fold, make_sampler = evaluate.fold_generator, Evaluator.sampler

    def fold_once(generator):
        key = b"".join(weight.tobytes() for weight in generator.get_weights())
        if key not in folded:
            folded[key] = fold(generator)
        return folded[key]

    def make_sampler_once(evaluator, generator):
        key = id(generator), id(evaluator.network), evaluator.batch_size
        if key not in samplers:
            samplers[key] = make_sampler(evaluator, generator)
        return samplers[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "fold_generator", fold_once)
        patch.setattr(evaluate, "open_features", open_once)
        patch.setattr(Evaluator, "sampler", make_sampler_once)
        yield


@pytest.fixture
def small_evaluations(monkeypatch, cache, shared_evaluators):
    """`sagan evaluate` with few embedded images."""
    monkeypatch.setattr(embedded, "SPLITS", {"train": 240, "test": 80})
    monkeypatch.setenv("SAGAN_TF_CACHE", str(cache))


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy_networks):
    return make_run(tmp_path_factory.mktemp("runs") / "run")
