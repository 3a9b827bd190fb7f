"""An interrupted and resumed collection equals an uninterrupted one."""

import numpy as np
import pytest

from sagan_tf.evaluation import inception_score
from sagan_tf.evaluation.collector import Collector

ABOUT = {"generator": "one", "seed": 3}


def rows(count=53, dimensions=6, classes=4):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(count, dimensions)).astype(np.float32)
    return features, rng.dirichlet(np.ones(classes), count).astype(np.float32), rng.integers(0, 3, count)


def collect(folder, values, start, end, about=ABOUT, keep=1000, batch=7):
    collector = Collector(folder, about, len(values[0]), 6, 4, keep)
    assert collector.done == start
    for first in range(start, end, batch):
        collector.add(*(value[first : min(first + batch, end)] for value in values))
    return collector


def assert_equal(actual, expected):
    np.testing.assert_array_equal(actual.features, expected.features)
    np.testing.assert_array_equal(actual.labels, expected.labels)
    np.testing.assert_array_equal(actual.indices, expected.indices)
    np.testing.assert_allclose(actual.moments.covariance, expected.moments.covariance, rtol=1e-12)
    assert actual.score == pytest.approx(expected.score, rel=1e-12) and actual.count == expected.count


@pytest.mark.parametrize("keep", [1000, 20])
def test_collector_resumes_the_saved_state_in_a_second_process(tmp_path, keep):
    values = rows()
    uninterrupted = collect(tmp_path / "whole", values, 0, 53, keep=keep).finish()
    first = collect(tmp_path / "parts", values, 0, 21, keep=keep)
    first.save()
    first.add(*(value[21:28] for value in values))  # never saved: lost with the process
    second = collect(tmp_path / "parts", values, 21, 53, keep=keep, batch=5)
    assert_equal(second.finish(), uninterrupted)
    assert len(uninterrupted.features) == min(keep, 53)
    np.testing.assert_array_equal(uninterrupted.features, values[0][uninterrupted.indices])
    np.testing.assert_array_equal(uninterrupted.labels, values[2][uninterrupted.indices])
    np.testing.assert_allclose(uninterrupted.moments.mean, values[0].mean(axis=0, dtype=np.float64))
    second.close()
    assert not (tmp_path / "parts").exists()


def test_collector_scores_random_splits(tmp_path):
    values = rows(count=4000)
    mean, deviation = collect(tmp_path / "x", values, 0, 4000, batch=64).finish().score
    expected = inception_score(values[1].astype(np.float64))
    assert mean == pytest.approx(expected[0], abs=4 * expected[1]) and deviation == pytest.approx(expected[1], rel=1)
    by_class = np.argsort(values[1].argmax(axis=1), kind="stable")  # sorted by class, as in class folders
    sorted_score = collect(tmp_path / "y", tuple(value[by_class] for value in values), 0, 4000).finish().score
    assert sorted_score[0] == pytest.approx(expected[0], abs=4 * expected[1])


@pytest.mark.parametrize("damage", ["about", "state", "features"])
def test_collector_restarts_when_state_is_damaged_or_of_other_work(tmp_path, damage):
    values = rows()
    first = collect(tmp_path / "x", values, 0, 21)
    first.save()
    if damage != "about":
        path = tmp_path / "x" / {"state": "state.npz", "features": "features.npy"}[damage]
        path.write_bytes(path.read_bytes()[:100])
    restarted = collect(tmp_path / "x", values, 0, 53, about={"seed": 4} if damage == "about" else ABOUT).finish()
    assert_equal(restarted, collect(tmp_path / "whole", values, 0, 53).finish())


def test_collector_rejects_too_many_too_few_and_non_finite_rows(tmp_path):
    values = rows()
    collector = collect(tmp_path / "x", values, 0, 50)
    with pytest.raises(ValueError, match="53 images are expected"):
        collector.finish()
    with pytest.raises(ValueError, match="53 images are expected"):
        collector.add(*(value[:9] for value in values))
    collector.add(np.full((3, 6), np.inf, np.float32), values[1][:3], values[2][:3])
    with pytest.raises(ValueError, match="finite"):
        collector.finish()


def test_collector_does_not_write_through_links(tmp_path):
    values = rows()
    collect(tmp_path / "x", values, 0, 21).save()
    path, foreign = tmp_path / "x" / "features.npy", tmp_path / "foreign.npy"
    foreign.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(foreign)
    before = foreign.read_bytes()
    collect(tmp_path / "x", values, 0, 53).finish()  # from the start
    assert foreign.read_bytes() == before


@pytest.mark.parametrize("within", ["moments", "scores", "save"])
def test_collector_interrupted_within_an_update_resumes_the_last_good_state(tmp_path, monkeypatch, within):
    def interrupt(*_):
        raise KeyboardInterrupt

    values = rows()
    stopped = collect(tmp_path / "stopped", values, 0, 21)
    stopped.save()
    stopped.add(*(value[21:28] for value in values))
    if within == "scores":
        monkeypatch.setattr(np, "where", interrupt)  # the totals have the new rows, the entropies do not
    else:
        monkeypatch.setattr(np, "outer", interrupt)  # the mean has moved, the count has not
    if within == "moments":
        monkeypatch.setattr("sagan_tf.evaluation.collector._ROWS_PER_UPDATE", 1)
    with pytest.raises(KeyboardInterrupt):
        stopped.save() if within == "save" else stopped.add(*(value[28:35] for value in values))
    monkeypatch.undo()
    stopped.save()  # as on every interrupt
    resumed = collect(tmp_path / "stopped", values, 21, 53)
    assert_equal(resumed.finish(), collect(tmp_path / "whole", values, 0, 53).finish())
