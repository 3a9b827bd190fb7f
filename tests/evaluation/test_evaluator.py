"""Samples by seed, cached statistics, and equal features on one and several devices."""

import math
import os
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import filelock
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_data import open_small
from small_runs import make_run
from toy_networks import toy_networks as toy_networks

from sagan_tf.data.options import DataOptions
from sagan_tf.data.sources import open_source
from sagan_tf.errors import UserError
from sagan_tf.evaluation import kernel_distance
from sagan_tf.evaluation.evaluator import Evaluator, SampleSet, file_name_part
from sagan_tf.evaluation.features import FeatureNetwork
from sagan_tf.experiment.loading import restore_networks
from sagan_tf.generation.folding import fold_generator
from sagan_tf.generation.sampler import Sampler

pytestmark = pytest.mark.usefixtures("toy_networks")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAGAN_TF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def network(sha256="ab", scale=1.0):
    def compute(images):
        pixels = tf.cast(images, tf.float32) * (scale / 255)
        features = tf.concat([tf.reduce_mean(pixels, axis=(1, 2)), tf.math.reduce_std(pixels, axis=(1, 2))], axis=1)
        return features, tf.nn.softmax(features[:, :4])

    return FeatureNetwork("means and deviations", sha256, "uint8 / 255", 6, 4, False, compute)


def source(**changes):
    return open_small("twins", **{"split": "test", **changes})


def test_sample_features_are_those_of_seed_in_any_batch(tmp_path):
    generator = restore_networks(make_run(tmp_path / "run")).generator
    folded, samples, found = fold_generator(generator), SampleSet(20, seed=5), []
    for batch in (7, 64):
        evaluator = Evaluator(network(), tf.distribute.get_strategy(), batch, show_progress=False)
        sampler = evaluator.sampler(folded)
        features, collector = evaluator.collect_samples(sampler, samples, {}, tmp_path / str(batch))
        found.append(np.array(features.features))
        collector.close()
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    labels = samples.labels(0, 20, 4)
    images = Sampler(folded).sample(np.arange(5, 25), labels)
    np.testing.assert_allclose(found[0], network()(images)[0], atol=2e-3)
    np.testing.assert_array_equal(features.labels, labels)


@pytest.mark.parametrize("part", [0, 1])
def test_features_and_probabilities_must_be_finite(part):
    def compute(images):
        rows = tf.shape(images)[0]
        outputs = [tf.zeros((rows, 6)), tf.fill((rows, 4), 0.25)]
        outputs[part] *= math.nan
        return tuple(outputs)

    broken = FeatureNetwork("broken", "ab", "uint8", 6, 4, False, compute)
    evaluator = Evaluator(broken, tf.distribute.get_strategy(), 8, show_progress=False)
    with pytest.raises(UserError, match="broken: gives features or probabilities that are not finite numbers"):
        evaluator.dataset_features(source())


@pytest.mark.parametrize("shares", [None, (0.5, 0.3, 0.0, 0.2)])
def test_sample_labels_are_drawn_by_their_shares_from_the_seed_of_each_sample(shares):
    samples = SampleSet(5000, label_shares=shares)
    whole = samples.labels(0, 5000, 4)
    expected = 5000 * np.array(shares or (0.25,) * 4)
    deviation = np.sqrt(expected * (1 - expected / 5000))
    assert np.all(np.abs(np.bincount(whole, minlength=4) - expected) <= 3 * deviation)
    np.testing.assert_array_equal(np.concatenate([samples.labels(0, 333, 4), samples.labels(333, 5000, 4)]), whole)
    later = SampleSet(10, seed=100, label_shares=shares)
    np.testing.assert_array_equal(later.labels(0, 10, 4), whole[100:110])
    assert samples.labels(0, 9, None) is None


def test_kernel_distance_of_drawn_labels_is_unbiased():
    """Samples with labels in turn are not independent: fewer pairs share a class, and the distance is too low."""
    values, clusters = [], 4 * np.random.default_rng(0).normal(size=(20, 8))
    for seed in range(200):
        rng = np.random.default_rng([1, seed])
        labels = SampleSet(60, seed=60 * seed).labels(0, 60, 20), rng.integers(20, size=60)
        values.append(kernel_distance(*(clusters[each] + rng.normal(size=(60, 8)) for each in labels))[0])
    assert abs(np.mean(values)) < 2 * np.std(values) / np.sqrt(len(values))


def test_cached_statistics_are_used_only_for_same_data_and_network(cache, capsys):
    evaluator, twins = Evaluator(network(), None, 256, show_progress=False), source()
    first = evaluator.dataset_features(twins)
    want = network()(twins.reader.images)[0].numpy()
    np.testing.assert_allclose(first.features, want, atol=1e-6)
    np.testing.assert_allclose(first.moments.covariance, np.cov(want.T.astype(np.float64)), rtol=1e-5)
    (path,) = (cache / "statistics").glob("*.npz")
    made = path.stat().st_mtime_ns
    assert evaluator.dataset_features(twins).about == first.about
    assert path.stat().st_mtime_ns == made and capsys.readouterr().out == ""
    # The same name and size, but other images.
    twins.reader.images[0] = 255 - twins.reader.images[0]
    again = evaluator.dataset_features(twins)
    out = capsys.readouterr().out
    assert out.startswith(f"{path} is not used and recomputed: `fingerprint` is ") and out.count("\n") == 1
    assert again.about["fingerprint"] != first.about["fingerprint"] and path.stat().st_mtime_ns != made
    # Another network of the same name: another file.
    other = Evaluator(network(sha256="cd", scale=2.0), None, 256, show_progress=False)
    others = other.dataset_features(twins)
    np.testing.assert_allclose(others.moments.mean, 2 * again.moments.mean, rtol=1e-5)
    assert len(list((cache / "statistics").glob("*.npz"))) == 2
    # An unreadable file is reported and recomputed.
    path.write_bytes(b"PK")
    evaluator.dataset_features(twins)
    assert "not a file of statistics" in capsys.readouterr().out
    assert file_name_part("a/b c:d") == "a_b_c_d" and file_name_part("::") == "x"


def test_statistics_cache_is_computed_by_one_process_at_a_time(cache, capsys):
    evaluator, twins, results = Evaluator(network(), None, 256, show_progress=False), source(), []
    lock = filelock.FileLock(f"{evaluator.statistics_path(twins)}.lock")
    (cache / "statistics").mkdir(parents=True)
    with lock:  # as if another process held it
        thread = threading.Thread(target=lambda: results.append(evaluator.dataset_features(twins)))
        thread.start()
        deadline = time.monotonic() + 30
        while "waiting for it" not in capsys.readouterr().out and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not results and time.monotonic() < deadline
    thread.join(60)
    assert results[0].count == 2000


def test_evaluator_keeps_features_up_to_limit():
    found = Evaluator(network(), None, 256, show_progress=False).dataset_features(source(), keep=100)
    assert found.count == 2000 and len(found.features) == len(set(found.indices.tolist())) == 100
    want = network()(source().reader.images)[0].numpy()
    np.testing.assert_allclose(found.features, want[found.indices], atol=1e-6)
    np.testing.assert_allclose(found.moments.mean, want.mean(axis=0), rtol=1e-5)


class TwoReplicas:
    """A strategy of two replicas that computes one after the other; values of both are lists."""

    num_replicas_in_sync = 2

    def run(self, function, args):
        outputs = [function(*replica_args) for replica_args in zip(*args)]
        return tuple(map(list, zip(*outputs)))

    def experimental_distribute_values_from_function(self, function):
        return [function(types.SimpleNamespace(replica_id_in_sync_group=i)) for i in range(2)]

    def experimental_local_results(self, value):
        return value


def test_evaluator_keeps_the_order_of_samples_on_two_replicas(tmp_path):
    folded, found = fold_generator(restore_networks(make_run(tmp_path / "run")).generator), []
    for strategy in (None, TwoReplicas()):
        evaluator = Evaluator(network(), strategy, 8, show_progress=False)
        features, collector = evaluator.collect_samples(
            evaluator.sampler(folded), SampleSet(41), {}, tmp_path / str(len(found))
        )
        found.append((np.array(features.features), features.labels))
        collector.close()
    np.testing.assert_allclose(found[1][0], found[0][0], atol=1e-5)
    np.testing.assert_array_equal(found[1][1], found[0][1])


@pytest.mark.stress
@pytest.mark.replicas
def test_evaluator_features_are_equal_on_one_and_two_replicas(tmp_path):
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import numpy as np
from evaluation.test_evaluator import network
from sagan_tf.generation.folding import fold_generator
from sagan_tf.evaluation.evaluator import Evaluator, SampleSet
from sagan_tf.experiment.loading import restore_networks
from sagan_tf.runs.folder import Run
from sagan_tf.training.distribution import make_strategy
strategy = make_strategy("mirrored", 2)
with strategy.scope():
    folded = fold_generator(restore_networks(Run.open(sys.argv[1])).generator)
evaluator = Evaluator(network(), strategy, 8, show_progress=False)
assert evaluator.batch_size == 16
found, _ = evaluator.collect_samples(evaluator.sampler(folded), SampleSet(41), {{}}, sys.argv[2] + "/two")
np.savez(sys.argv[2] + "/two.npz", features=found.features, labels=found.labels)
"""
    run = make_run(tmp_path / "run")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", script, str(run.path), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    evaluator = Evaluator(network(), None, 16, show_progress=False)
    sampler = evaluator.sampler(fold_generator(restore_networks(run).generator))
    one, _ = evaluator.collect_samples(sampler, SampleSet(41), {}, tmp_path / "one")
    with np.load(tmp_path / "two.npz") as two:
        np.testing.assert_allclose(two["features"], one.features, atol=1e-5)
        np.testing.assert_array_equal(two["labels"], one.labels)


def test_dataset_features_of_another_resize_filter_are_recomputed(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (80, 80, 3), np.uint8)).save(tmp_path / f"{i}.png")
    means = {}
    for resize in ("bilinear", "lanczos3", "bilinear"):
        # Not in memory: then only names, sizes and times of the files are compared.
        options = DataOptions(name=str(tmp_path), image_size=32, resize=resize, memory_limit_gib=0)
        features = Evaluator(network(), None).dataset_features(open_source(options))
        means.setdefault(resize, []).append(features.moments.mean)
    assert not np.allclose(means["bilinear"][0], means["lanczos3"][0])
    np.testing.assert_array_equal(*means["bilinear"])
