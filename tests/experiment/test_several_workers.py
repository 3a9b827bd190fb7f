"""`sagan train` as several workers of one run: writing, stopping and resuming."""

import signal
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from tiny_runs import tiny_config, tiny_flags
from training.test_workers import end_of, start_workers

from sagan_tf.errors import UserError
from sagan_tf.experiment.train import check_same_config, train
from sagan_tf.runs.folder import Run
from sagan_tf.training.workers import Worker


def command(run, steps):
    return [sys.executable, "-m", "sagan_tf.train", *tiny_flags(run, steps, output__sample_interval=100)]


def wait_for_step(run, step, processes):
    deadline = time.monotonic() + 120
    while not any(line["step"] >= step for line in run.read_metrics()):
        assert time.monotonic() < deadline and all(process.poll() is None for process in processes)
        time.sleep(0.05)


def state(run):
    """All arrays of the newest checkpoint, and the metrics except for the speed."""
    reader = tf.train.load_checkpoint(run.checkpoints()[0])
    # TensorFlow counts saves; a stop adds one.
    names = [n for n in reader.get_variable_to_shape_map() if "CHECKPOINT" not in n and "save_counter" not in n]
    arrays = {name: reader.get_tensor(name) for name in names}
    lines = [{key: value for key, value in line.items() if "second" not in key} for line in run.read_metrics()]
    return arrays, lines


@pytest.mark.stress
@pytest.mark.replicas
def test_resume_is_exact_when_workers_are_killed_or_stopped(tmp_path):
    whole, broken = Run(tmp_path / "whole"), Run(tmp_path / "broken")
    (chief, other) = end_of(start_workers(2, command(whole.path, 8)))
    assert chief[0] == other[0] == 0, chief[2][-2000:] + other[2][-2000:]
    assert "Made 8 steps" in chief[1] and "Made" not in other[1]

    workers = start_workers(2, command(broken.path, 8))
    wait_for_step(broken, 3, workers)
    began = time.monotonic()
    workers[1].kill()
    (status, _, err), _ = end_of(workers)
    assert time.monotonic() - began < 30
    assert status == 2 and "another worker has stopped or cannot be reached" in err

    workers = start_workers(2, command(broken.path, 8))
    wait_for_step(broken, 4, workers)
    workers[1].send_signal(signal.SIGTERM)  # not the chief
    (chief, other) = end_of(workers)
    assert chief[0] == other[0] == 143, chief[2][-2000:] + other[2][-2000:]
    assert "Stopped by another worker at step" in chief[1]

    (chief, other) = end_of(start_workers(2, command(broken.path, 8)))
    assert chief[0] == other[0] == 0
    (arrays, lines), (expected, expected_lines) = state(broken), state(whole)
    assert arrays.keys() == expected.keys() and len(arrays) > 300
    different = [name for name in arrays if not np.array_equal(arrays[name], expected[name])]
    assert not different and lines == expected_lines
    assert [line["step"] for line in lines] == list(range(1, 9))


@pytest.mark.stress
@pytest.mark.replicas
def test_stop_during_evaluation_ends_all_workers(tmp_path, features):
    evaluated = ["--evaluation.features", str(features), "--evaluation.interval", "2", "--evaluation.split", "test"]
    few, many = ([*evaluated, "--evaluation.num_samples", str(count)] for count in (100, 1_000_000))
    whole, broken = Run(tmp_path / "whole"), Run(tmp_path / "broken")
    (chief, other) = end_of(start_workers(2, [*command(whole.path, 4), *few]))
    assert chief[0] == other[0] == 0, chief[2][-2000:] + other[2][-2000:]

    for signalled in (1, 0):
        workers = start_workers(2, [*command(broken.path, 4), *many])
        wait_for_step(broken, 2, workers)
        shares = [broken.evaluation_path / f"training.share_{i}_of_2.npz.collecting" for i in (1, 2)]
        deadline = time.monotonic() + 60
        while not all(share.is_dir() for share in shares):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(2)
        began = time.monotonic()
        workers[signalled].send_signal(signal.SIGTERM)
        (chief, other) = end_of(workers)
        assert time.monotonic() - began < 30
        assert chief[0] == other[0] == 143, chief[2][-2000:] + other[2][-2000:]
        by = "SIGTERM" if signalled == 0 else "another worker"
        assert f"Stopped by {by} at step 2 of 4, saved." in chief[1]
        assert not any(share.exists() for share in shares)

    (chief, other) = end_of(start_workers(2, [*command(broken.path, 4), *few]))
    assert chief[0] == other[0] == 0, chief[2][-2000:] + other[2][-2000:]
    (arrays, lines), (expected, expected_lines) = state(broken), state(whole)
    assert all(map(np.array_equal, arrays.values(), expected.values())) and lines == expected_lines
    assert [line["step"] for line in lines if "evaluation_samples" in line] == [2, 4]


def test_train_rejects_config_of_another_worker_before_it_makes_the_folder(tmp_path, monkeypatch):
    sent = []

    def gather(strategy, worker, values):
        sent.append(values)
        return np.array([values, others.pop(0) if others else values])

    monkeypatch.setattr("sagan_tf.training.workers.gather", gather)
    others, strategy = [], tf.distribute.get_strategy()
    check_same_config(tiny_config(tmp_path, 9, training__loss="hinge", generator__channels=10), strategy, Worker(0, 2))
    others += sent
    monkeypatch.setattr("sagan_tf.experiment.train.read_worker", lambda: Worker(1, 2, "b:1"))
    match = r"^worker 1 of 2 \(b:1\): .* not have the same generator.channels, training.steps. Start all with the same"
    with pytest.raises(UserError, match=match):
        train(tiny_config(tmp_path / "run", 19, training__loss="hinge", generator__channels=11))
    assert not (tmp_path / "run").exists()


@pytest.mark.stress
@pytest.mark.replicas
def test_workers_with_different_configs_end_before_the_first_step(tmp_path):
    run = tmp_path / "run"
    different = [*command(run, "{index}9"), "--training.loss", "hinge", "--generator.channels", "1{index}"]
    for status, _, err in end_of(start_workers(2, different)):
        assert status == 2 and "Traceback" not in err
        assert "the workers do not have the same generator.channels, training.steps. Start all with the same" in err
    assert not run.exists()
