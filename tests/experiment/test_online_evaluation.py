"""Online evaluation by several workers: each computes its share; when one stops, all stop at the same batch."""

import json
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from small_data import open_small, save_picture
from toy_networks import toy_generator

from sagan_tf.evaluation.evaluator import Evaluator, SampleSet
from sagan_tf.evaluation.features import FeatureNetwork
from sagan_tf.experiment import online_evaluation
from sagan_tf.experiment.online_evaluation import EvaluationInterrupted, OnlineEvaluation, SampleCollection
from sagan_tf.runs.folder import Run
from sagan_tf.training.callbacks import StepCallback
from sagan_tf.training.guard import TrainingFailure
from sagan_tf.training.workers import Worker, make_all_reduce


class SeedSampler:
    """A sampler whose features are numbers drawn from the seed."""

    num_classes = None

    def sample_outputs(self, seeds, labels, truncation):
        return None, np.stack([np.random.default_rng(seed).normal(size=3) for seed in seeds]), None


class SeedEvaluator(Evaluator):
    def sampler(self, generator):
        return SeedSampler()


def gather(folder, workers, count, rows, monkeypatch, stop=None):
    """What each worker's collection returns or raises; worker `stop[0]` requests a stop before its round `stop[1]`."""
    barrier, values = threading.Barrier(workers), [0.0] * workers
    network = FeatureNetwork("seeds", "ab", "none", 3, None, False, None)

    def collect(index):
        gan = types.SimpleNamespace(ema_generator=None, distribute_strategy=None, stop_wanted=False)
        rounds = 0

        def all_reduce(value):
            nonlocal rounds
            values[index] = max(value, float(stop == (index, rounds)))
            rounds += 1
            barrier.wait(10)
            total = sum(values)
            barrier.wait(10)
            return total

        with lock:
            monkeypatch.setattr(online_evaluation, "make_all_reduce", lambda strategy: all_reduce)
            evaluator = SeedEvaluator(network, None, rows, show_progress=False)
            collection = SampleCollection(gan, evaluator, SampleSet(count, 7), folder / "c", Worker(index, workers))
        try:
            return collection.collect(4), gan
        except EvaluationInterrupted:
            return "stopped", gan
        finally:
            barrier.wait(10)  # no worker removes its files before the chief has read them
            collection.remove_files()

    lock = threading.Lock()
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(collect, range(workers)))


@pytest.mark.parametrize(("workers", "count", "rows"), [(2, 9, 4), (3, 7, 2), (3, 2, 2), (4, 50, 8)])
def test_collection_of_workers_equals_collection_of_one(tmp_path, monkeypatch, workers, count, rows):
    (whole, _), *others = gather(tmp_path, workers, count, rows, monkeypatch)
    assert all(found is None for found, _ in others) and not any(gan.stop_wanted for _, gan in others)
    ((alone, _),) = gather(tmp_path / "one", 1, count, rows, monkeypatch)
    assert whole.count == alone.count == count
    np.testing.assert_array_equal(whole.features, alone.features)
    np.testing.assert_allclose(whole.moments.mean, alone.moments.mean, rtol=1e-12)
    assert not list(tmp_path.glob("c*"))


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("before", [0, 2, 4])
def test_collection_stops_on_all_workers_when_one_stops(tmp_path, monkeypatch, index, before):
    found = gather(tmp_path, 3, 14, 1, monkeypatch, stop=(index, before))  # shares: 4, 5 and 5 images, one per round
    assert [result for result, _ in found] == ["stopped"] * 3
    assert all(gan.stop_training and gan.stop_agreed == 1 for _, gan in found)
    assert not list(tmp_path.iterdir())


def test_all_reduce_sums_over_replicas():
    all_reduce = make_all_reduce(tf.distribute.get_strategy())
    assert [all_reduce(value) for value in (0, 1.5)] == [0.0, 1.5]


def test_all_reduce_does_not_cache_values():
    all_reduce, value = make_all_reduce(tf.distribute.get_strategy()), 10**6 / 7
    before = sys.getrefcount(value)
    assert all_reduce(value) == value and sys.getrefcount(value) == before


class InterruptedCollection:
    def collect(self, step):
        raise EvaluationInterrupted

    def remove_files(self):
        pass


def test_online_evaluation_raises_when_interrupted_again(monkeypatch):
    monkeypatch.setattr(OnlineEvaluation, "__init__", lambda self: StepCallback.__init__(self, interval=2))
    monkeypatch.setattr(online_evaluation, "is_evaluation_missing", lambda config, run, step: step == 4)
    monkeypatch.setattr(online_evaluation, "check_finite", lambda *_: None)
    evaluation = OnlineEvaluation()
    evaluation.config = evaluation.run = None
    evaluation.collection = InterruptedCollection()
    evaluation.set_model(types.SimpleNamespace(step=tf.Variable(4)))
    with pytest.raises(EvaluationInterrupted):
        evaluation.on_train_begin()
    evaluation.model.step.assign(5)
    evaluation.on_train_begin()
    assert evaluation.evaluated_step == 5


def test_online_evaluation_rejects_weights_that_are_not_finite():
    """Their images are levels like others, of which a distance came out, and a best generator that nobody can load."""
    evaluation = object.__new__(OnlineEvaluation)
    generator = toy_generator()
    generator.weights[0].assign(np.full(generator.weights[0].shape, np.nan))
    evaluation.collection, evaluation.last_step = InterruptedCollection(), 3
    evaluation._model = types.SimpleNamespace(weights=generator.weights)
    with pytest.raises(TrainingFailure, match="a weight became infinite or NaN before step 3"):
        evaluation._evaluate()


def test_protocol_tells_data_apart_and_knows_a_copy(tmp_path):
    network = FeatureNetwork("seeds", "ab", "none", 3, None, False, None)
    protocols = {}
    for name, seed in (("one", 0), ("copy", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        for i in range(3):
            pixels = np.random.default_rng([seed, i]).integers(0, 256, (32, 32, 3), np.uint8)
            save_picture(tmp_path / name / f"{i}.png", pixels)
        source = open_small(tmp_path / name)
        protocols[name] = online_evaluation.protocol_of(network, SampleSet(20, 1), source)
    assert protocols["one"] == protocols["copy"] != protocols["other"]
    assert json.loads(json.dumps(protocols["one"])) == protocols["one"]


def test_best_generator_of_other_options_is_replaced(tmp_path, capsys):
    evaluation = object.__new__(OnlineEvaluation)
    evaluation.run, evaluation.log, evaluation.reference = Run(tmp_path), types.SimpleNamespace(append=print), None
    evaluation._model = types.SimpleNamespace(ema_generator=toy_generator())

    def record(step, value, protocol):
        metrics = [types.SimpleNamespace(key="frechet_distance", value=value)], {}
        network = types.SimpleNamespace(is_inception=False)
        evaluation.evaluator = types.SimpleNamespace(network=network, metrics=lambda *_: metrics)
        evaluation.last_step, evaluation.protocol = step, protocol
        evaluation._record(types.SimpleNamespace(count=20))
        return evaluation.run.best()["step"]

    assert [record(1, 3.1, ["a", 20]), record(2, 4.0, ["a", 20]), record(3, 2.9, ["a", 20])] == [1, 1, 3]
    assert "other options" not in capsys.readouterr().out
    # Another network's distances are larger.
    assert [record(4, 55.0, ["b", 20]), record(5, 60.0, ["b", 20]), record(6, 20.0, ["b", 20])] == [4, 4, 6]
    assert capsys.readouterr().out.count("The best generator, of step 3, was found by other options or data") == 1
