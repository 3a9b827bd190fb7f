"""`TF_CONFIG` is parsed; several workers train the same weights as one device."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sagan_tf.errors import UserError
from sagan_tf.training.distribution import make_strategy
from sagan_tf.training.workers import Worker, read_worker

TESTS = Path(__file__).resolve().parents[1]


def tf_config(role, index, **cluster):
    return json.dumps({"cluster": cluster, "task": {"type": role, "index": index}})


@pytest.mark.parametrize(
    ("text", "worker"),
    [
        ("", Worker()),
        ("{}", Worker()),
        (tf_config("worker", 0, worker=["a:1"]), Worker()),
        (tf_config("chief", 0, chief=["a:1"]), Worker()),
        (tf_config("worker", 1, worker=["a:1", "b:2", "c:3"]), Worker(1, 3, "b:2")),
        # Kubeflow's operator sets indices as strings, a chief in addition to workers, and an extra field.
        (tf_config("worker", "0", worker=["b:2"], chief=["a:1"]), Worker(1, 2, "b:2")),
        (tf_config("chief", 0, chief=["a:1"], worker=["b:2"])[:-1] + ', "environment": "cloud"}', Worker(0, 2, "a:1")),
    ],
)
def test_read_worker_parses_tf_config(text, worker, monkeypatch):
    assert read_worker(text) == worker
    monkeypatch.setenv("TF_CONFIG", text)
    assert read_worker() == worker
    assert worker.is_chief == (worker.index == 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON"),
        ("[]", "must be JSON"),
        ('{"cluster": {"worker": 3}}', "must be JSON"),
        (tf_config("worker", "x", worker=["a:1", "b:1"]), "must be JSON"),
        (tf_config("worker", 2, worker=["a:1", "b:1"]), "worker 2, which the cluster does not have"),
        (tf_config("worker", 0, worker=["a:1"], ps=["b:1"]), "`ps`; training is synchronous"),
        (tf_config("evaluator", 0, chief=["a:1"], worker=["a:1"]), "evaluator 0, which the cluster does not have"),
    ],
)
def test_read_worker_rejects_unusable_cluster(text, message):
    with pytest.raises(UserError, match=message):
        read_worker(text)


def test_make_strategy_rejects_contradiction_with_cluster(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config("worker", 0, worker=["a:1", "b:1"]))
    for arguments in (("single",), ("mirrored", 2), ("auto", 2)):
        with pytest.raises(UserError, match="must be `auto`, with hardware.replicas null, on the 2 workers"):
            make_strategy(*arguments)


def free_addresses(count):
    sockets = [socket.socket() for _ in range(count)]
    for bound in sockets:
        bound.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{bound.getsockname()[1]}" for bound in sockets]
    for bound in sockets:
        bound.close()
    return addresses


def start_workers(count, command):
    """Starts a command as each worker of a cluster on this machine; list of subprocess.Popen."""
    addresses = free_addresses(count)
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    return [
        subprocess.Popen(
            [part.format(index=i) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": paths, "TF_CONFIG": tf_config("worker", i, worker=addresses)},
        )
        for i in range(count)
    ]  # fmt: skip


def end_of(processes, seconds=300):
    """(exit status, stdout, stderr) of each."""
    try:
        texts = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *text) for process, text in zip(processes, texts)]


@pytest.mark.slow
@pytest.mark.replicas
@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.stress)])
def test_workers_train_same_weights_as_one_device(tmp_path, count):
    script = str(TESTS / "training" / "replica_run.py")
    one = subprocess.Popen(
        [sys.executable, script, "1", str(tmp_path / "one.npz"), "all"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])},
    )  # fmt: skip
    several = start_workers(count, [sys.executable, script, "0", str(tmp_path / "{index}.npz"), "all"])
    for status, _, err in end_of([one, *several], 900):
        assert status == 0, err[-3000:]
    expected, first, *others = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("one", *range(count)))
    assert len(expected) > 100 and len(others) == count - 1
    assert all((first[name] == other[name]).all() for other in others for name in first)
    largest = max(np.abs(expected[name] - first[name]).max() for name in expected)
    print(f"{count} processes differ from one by {largest:.1e}")
    assert largest < 1e-5
