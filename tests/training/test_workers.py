"""`TF_CONFIG` is parsed; several workers train the same weights as one device."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sagan_tf.errors import UserError
from sagan_tf.training import workers
from sagan_tf.training.distribution import make_strategy
from sagan_tf.training.workers import Worker, check_same_step, read_worker, wait_until_present

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
        (tf_config("worker", 1.5, worker=["a:1", "b:1"]), "must be JSON"),
        (tf_config("worker", None, worker=["a:1", "b:1"]), "must be JSON"),
        (tf_config("worker", -1, worker=["a:1", "b:1"]), "worker -1, which the cluster does not have"),
        (tf_config(["worker"], 0, worker=["a:1", "b:1"]), "must be JSON"),
        (tf_config("worker", 0, worker="a:1,b:1"), "must be JSON"),
        (tf_config("worker", 0, worker={"0": "a:1", "1": "b:1"}), "must be JSON"),
        (tf_config("worker", 0, worker=["a", "b"]), "must be JSON"),
        (tf_config("worker", 0, worker=["a:", "b:1"]), "must be JSON"),
        (tf_config("worker", 0, worker=[":1", "b:1"]), "must be JSON"),
        (tf_config("worker", 0, worker=["a:x", "b:1"]), "must be JSON"),
        (tf_config("worker", 0, worker=["a:0", "b:1"]), "must be JSON"),
        (tf_config("worker", 0, worker=["a:65536", "b:1"]), "must be JSON"),
        (tf_config("worker", 0, worker=["a:1", None]), "must be JSON"),
        ('{"cluster": [1], "task": {}}', "must be JSON"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": 3}', "must be JSON"),
        ("[" * 100_000, "must be JSON"),
        (tf_config("worker", 0, worker=["a:1", "a:1"]), "the address a:1 is given twice"),
        (tf_config("worker", 0, worker=["a:1"], chief=["a:1"]), "the address a:1 is given twice"),
        (tf_config("chief", 0, chief=["a:1", "b:1"]), "more than one chief"),
        (tf_config("chief", 0, chief=["a:1"], master=["b:1"]), "more than one chief"),
        (tf_config("evaluator", 0, chief=["a:1"], worker=["b:1"]), "evaluator 0, which the cluster does not have"),
    ],
)
def test_read_worker_rejects_unusable_cluster(text, message):
    with pytest.raises(UserError, match=message):
        read_worker(text)


def make_worker(addresses, index):
    return read_worker(tf_config("worker", index, worker=addresses))


def open_address(address):
    return socket.create_server(("127.0.0.1", int(address.rpartition(":")[2])))


def wait_and_open(worker):
    """As training does: TensorFlow's server takes the port, so a worker that polls later still finds it open."""
    wait_until_present(worker, 1)
    return open_address(worker.address)


def test_wait_until_present_returns_when_all_workers_have_come():
    addresses = free_addresses(3)
    with ThreadPoolExecutor(3) as pool, contextlib.ExitStack() as stack:
        waits = [pool.submit(wait_and_open, make_worker(addresses, i)) for i in range(2)]
        time.sleep(0.2)
        assert not any(wait.done() for wait in waits)
        stack.enter_context(open_address(addresses[2]))
        for wait in waits:
            stack.enter_context(wait.result())


def test_wait_until_present_names_missing_workers(monkeypatch, capsys):
    monkeypatch.setattr(workers, "_REPORT_SECONDS", 0.1)
    monkeypatch.setattr(workers, "_POLL_SECONDS", 0.05)
    addresses = free_addresses(3)
    missing = f"worker 0 ({addresses[0]}), worker 2 ({addresses[2]})"
    with pytest.raises(UserError, match=re.escape(f"these are missing: {missing}.")):
        wait_until_present(make_worker(addresses, 1), 0.01)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 1 and all(f"waiting for {missing}, since" in line for line in lines)


@pytest.mark.parametrize("host", ["a" * 64, "a..b", "\ud800"])
def test_wait_until_present_waits_for_names_that_no_host_has(host):
    with pytest.raises(UserError, match="these are missing: worker 1"):
        wait_until_present(make_worker([*free_addresses(1), f"{host}:1"], 0), 0)


def test_wait_until_present_names_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as server:
        addresses = [f"127.0.0.1:{server.getsockname()[1]}", *free_addresses(1)]
        with pytest.raises(UserError, match=r"worker 0 of 2 .*: its port cannot be opened: Address already in use"):
            wait_until_present(make_worker(addresses, 0), 1)


WAITING = """
from sagan_tf.train import main
from sagan_tf.training import workers
workers._REPORT_SECONDS = 0.1
main()
"""


@pytest.mark.slow
def test_signal_ends_worker_that_waits(tmp_path):
    (worker,) = start_workers(1, [sys.executable, "-c", WAITING, "--run", str(tmp_path / "run")], missing=1)
    for line in worker.stderr:
        if "waiting for worker 1" in line:
            break
    worker.send_signal(signal.SIGTERM)
    began = time.monotonic()
    _, err = worker.communicate(timeout=60)
    assert worker.returncode == 143 and time.monotonic() - began < 10
    assert "stopped by SIGTERM" in err and "Traceback" not in err and not (tmp_path / "run").exists()


BLOCKED = """
import tensorflow as tf
from sagan_tf.errors import one_line_errors
from sagan_tf.training.signals import end_on_signal
from sagan_tf.training.workers import Worker
with one_line_errors(), end_on_signal(Worker(0, 2)):
    print("waiting", flush=True)
    tf.queue.FIFOQueue(1, tf.float32).dequeue()  # as a collective operation, it never returns
"""


@pytest.mark.slow
def test_end_on_signal_ends_worker_that_waits_in_tensorflow():
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, "-c", BLOCKED], **pipes) as process:
        process.stdout.readline()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143 and "stopped by SIGTERM" in err and "Traceback" not in err


def test_make_strategy_rejects_contradiction_with_cluster(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config("worker", 0, worker=["a:1", "b:1"]))
    for arguments in (("single",), ("mirrored", 2), ("auto", 2)):
        with pytest.raises(UserError, match="must be `auto`, with hardware.replicas null, on the 2 workers"):
            make_strategy(*arguments)


def free_addresses(count):
    """Addresses of ports below those that the system gives to other processes."""
    addresses = set()
    while len(addresses) < count:
        address = "127.0.0.1", random.SystemRandom().randrange(10_000, 32_768)  # others may have the same seed
        with contextlib.suppress(OSError), socket.create_server(address):
            addresses.add("{}:{}".format(*address))
    return list(addresses)


def start_workers(count, command, missing=0):
    """Starts a command as each worker of a cluster on this machine but the last `missing`; list of subprocess.Popen."""
    addresses = free_addresses(count + missing)
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


def test_worker_that_finds_no_checkpoint_is_refused(monkeypatch):
    sent = []
    monkeypatch.setattr(workers, "gather", lambda strategy, worker, own: sent.append(own) or np.array([own, own]))
    check_same_step(None, Worker(0, 2), 0)
    others = iter(sent)
    monkeypatch.setattr(workers, "gather", lambda strategy, worker, own: np.array([own, next(others)]))
    with pytest.raises(UserError, match="the same last checkpoint. This one finds none. The run folder must be"):
        check_same_step(None, Worker(1, 2), None)
