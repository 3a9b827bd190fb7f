"""The service while versions appear and disappear on disk."""

import errno
import json
import os
import shutil
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from serving.models import copy_version, make_inputs, write_model
from serving.servers import call_in_threads, make_request, running, wait_until
from tensorflow_serving.apis import prediction_log_pb2

from sagan_tf.serving.folders import find_models, find_versions
from sagan_tf.serving.limits import Limits
from sagan_tf.serving.loaded_version import LoadedVersion, Signature, TensorInfo

INPUTS = make_inputs(1)
VALUE = sum(INPUTS["latent"][0]) + INPUTS["label"][0]


@pytest.fixture
def folder(version_1, tmp_path):
    """A model folder for one test, with version 1."""
    (tmp_path / "sagan").mkdir()
    copy_version(version_1, tmp_path / "sagan", 1)
    return tmp_path / "sagan"


@pytest.fixture(scope="session")
def doubled(tmp_path_factory):
    """A version with twice the values of version 1."""
    return write_model(tmp_path_factory.mktemp("doubled"), scale=2.0)


def value_of(answer):
    return json.loads(answer.body)["outputs"][0][0][0][0]


def served(server):
    answer = server.get("/v1/models/sagan").json
    return [int(one["version"]) for one in answer.get("model_version_status", [])]


def test_service_ignores_versions_beyond_64_bits(folder, version_1):
    copy_version(version_1, folder, 2**63)
    copy_version(version_1, folder, 2**63 - 1)
    with running(folder) as server, server.stubs() as (predictions, _):
        arrays = {"latent": np.array(INPUTS["latent"], np.float32), "label": np.array(INPUTS["label"], np.int32)}
        answer = predictions.Predict(make_request(**arrays), timeout=20)
        assert answer.model_spec.version.value == 2**63 - 1 and served(server) == [2**63 - 1]


def test_service_switches_to_new_version_without_failed_request(folder, doubled):
    with running(folder) as server, server.stubs() as (predictions, _):
        stop, by_rest, by_grpc = threading.Event(), [], []
        arrays = {"latent": np.array(INPUTS["latent"], np.float32), "label": np.array(INPUTS["label"], np.int32)}

        def hammer(i):
            while not stop.is_set():
                if i % 2:
                    answer = server.predict({"inputs": INPUTS})
                    by_rest.append((answer.status, answer.status == 200 and value_of(answer)))
                else:
                    answer = predictions.Predict(make_request(**arrays), timeout=20)
                    by_grpc.append((answer.model_spec.version.value, tf.make_ndarray(answer.outputs["image"]).flat[0]))

        def publish():
            time.sleep(0.3)
            copy_version(doubled, folder, 2)
            wait_until(lambda: served(server) == [2])
            time.sleep(0.3)
            stop.set()

        call_in_threads(lambda i: publish() if i == 4 else hammer(i), range(5))
        old_version = server.post("/v1/models/sagan/versions/1:predict", {"inputs": INPUTS})
    assert {status for status, _ in by_rest} == {200}
    np.testing.assert_allclose([value for _, value in by_grpc], [version * VALUE for version, _ in by_grpc], rtol=1e-6)
    for values in ([value for _, value in by_rest], [value for _, value in by_grpc]):
        np.testing.assert_allclose([values[0], values[-1]], [VALUE, 2 * VALUE], rtol=1e-6)
    assert old_version.status == 404


def test_service_orders_versions_by_number_and_falls_back_when_removed(folder, doubled):
    copy_version(doubled, folder, 9)
    copy_version(doubled, folder, 10)
    with running(folder) as server:
        assert served(server) == [10]
        shutil.rmtree(folder / "10")
        shutil.rmtree(folder / "9")
        wait_until(lambda: served(server) == [1])
        assert value_of(server.predict({"inputs": INPUTS})) == pytest.approx(VALUE)


def test_server_answers_503_until_a_version_is_served(version_1, tmp_path):
    folder = tmp_path / "sagan"
    folder.mkdir()
    with running(folder) as server:
        assert server.get("/healthz").status == server.predict({"inputs": INPUTS}).status == 503
        copy_version(version_1, folder, 1)
        wait_until(lambda: server.get("/healthz").status == 200)
        assert server.predict({"inputs": INPUTS}).status == 200
        (folder / "1").rename(tmp_path / "away")
        wait_until(lambda: server.get("/healthz").status == 503)
        assert server.predict({"inputs": INPUTS}).status == 503
        assert server.predict({"inputs": INPUTS}, model="other").status == 404
        (tmp_path / "away").rename(folder / "1")
        wait_until(lambda: server.get("/healthz").status == 200)


def test_service_reports_broken_version_once_and_loads_it_after_repair(folder, doubled):
    copy_version(doubled, folder, 2)
    graph = folder / "2" / "saved_model.pb"
    content = graph.read_bytes()
    graph.write_bytes(content[: len(content) // 2])
    (folder / "3").mkdir()  # still empty
    shutil.copytree(folder / "1", folder / ".hidden")
    shutil.copytree(folder / "1", folder / "04")
    with running(folder) as server:
        wait_until(lambda: server.lines)
        time.sleep(0.3)
        assert [line.partition(":")[0] for line in server.lines if "serving" not in line] == [f"cannot load {folder}/2"]
        assert served(server) == [1]
        copy_version(folder / "1", folder, 5)
        wait_until(lambda: served(server) == [5])
        shutil.rmtree(folder / "5")
        graph.write_bytes(content)
        wait_until(lambda: served(server) == [2])
        assert value_of(server.predict({"inputs": INPUTS})) == pytest.approx(2 * VALUE)


def test_find_versions_skips_version_without_variables(folder):
    (folder / "1" / "variables" / "variables.index").unlink()
    assert find_versions(folder) == [] and find_models(folder) == {}


@pytest.mark.parametrize("allow_any_graph", [False, True])
def test_service_refuses_a_version_whose_variables_are_missing_until_they_arrive(folder, doubled, allow_any_graph):
    copy_version(doubled, folder, 2)
    shutil.move(folder / "2" / "variables", folder / ".variables")  # copied last
    shutil.rmtree(folder / "2" / "assets.extra", ignore_errors=True)
    with running(folder, Limits(poll_interval=0.1, allow_any_graph=allow_any_graph)) as server:
        wait_until(lambda: [line for line in server.lines if "cannot load" in line])
        (line,) = (line for line in server.lines if "cannot load" in line)
        assert line.startswith(f"cannot load {folder}/2: ")
        assert allow_any_graph or "the files of its variables are missing." in line
        assert served(server) == [1]
        assert value_of(server.predict({"inputs": INPUTS})) == pytest.approx(VALUE)
        shutil.move(folder / ".variables", folder / "2" / "variables")
        wait_until(lambda: served(server) == [2])
        assert value_of(server.predict({"inputs": INPUTS})) == pytest.approx(2 * VALUE)


def test_service_takes_fewer_rows_where_outputs_are_large(folder, monkeypatch):
    monkeypatch.setattr(Signature, "bytes_per_row", 1 << 20)
    with running(folder, Limits(max_batch_size=8, max_body=1 << 20)) as server:  # outputs of four rows
        assert server.predict({"inputs": make_inputs(4)}).status == 200
        answer = server.predict({"inputs": make_inputs(5)})
        assert answer.status == 400 and "Task size 5 is larger than maximum input batch size 4" in str(answer.json)


def test_signature_counts_the_bytes_of_a_row_of_known_size():
    infos = {
        "image": TensorInfo(np.dtype("float32"), (None, 8, 8, 3), ""),
        "attention": TensorInfo(np.dtype("float16"), (None, 64, 16), ""),
        "text": TensorInfo(np.dtype(object), (None,), ""),
        "any": TensorInfo(np.dtype("float32"), (None, None), ""),
        "unknown": TensorInfo(np.dtype("float32"), None, ""),
    }
    assert Signature({}, infos, None).bytes_per_row == 8 * 8 * 3 * 4 + 64 * 16 * 2
    assert Signature({}, {}, None).bytes_per_row == 1


def test_find_models_accepts_model_folder_of_models_and_export(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "other")
    export = tmp_path / "export"
    shutil.copytree(folder, export / "saved_model" / "sagan")
    assert find_models(folder) == {"sagan": str(folder)}
    assert find_models(tmp_path) == {"other": str(tmp_path / "other"), "sagan": str(folder)}
    assert find_models(export) == {"sagan": str(export / "saved_model" / "sagan")}


def test_server_serves_several_models(folder, doubled, tmp_path):
    (tmp_path / "double").mkdir()
    copy_version(doubled, tmp_path / "double", 7)
    with running(tmp_path) as server:
        assert value_of(server.predict({"inputs": INPUTS})) == pytest.approx(VALUE)
        assert value_of(server.predict({"inputs": INPUTS}, model="double")) == pytest.approx(2 * VALUE)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.EIO, errno.ESTALE])
def test_service_keeps_versions_while_the_folder_cannot_be_listed(folder, doubled, monkeypatch, code):
    real = os.listdir

    def fail(path):
        raise OSError(code, os.strerror(code), path)

    with running(folder) as server:
        monkeypatch.setattr("os.listdir", fail)
        copy_version(doubled, folder, 2)
        wait_until(lambda: f"cannot list {folder}: {os.strerror(code)}. What is served stays." in server.lines)
        time.sleep(0.3)
        assert served(server) == [1] and value_of(server.predict({"inputs": INPUTS})) == pytest.approx(VALUE)
        assert sum("cannot list" in line for line in server.lines) <= 2  # not in every round
        monkeypatch.setattr("os.listdir", real)
        wait_until(lambda: served(server) == [2])


def test_service_tries_a_transient_failure_again(folder, doubled, monkeypatch):
    failures = [OSError(errno.EMFILE, "Too many open files"), MemoryError("no memory")]

    class Flaky(LoadedVersion):
        def __init__(self, *arguments):
            if failures:
                raise failures.pop()
            super().__init__(*arguments)

    with running(folder) as server:
        monkeypatch.setattr("sagan_tf.serving.service.LoadedVersion", Flaky)
        copy_version(doubled, folder, 2)
        wait_until(lambda: served(server) == [2])
        assert not failures and [line for line in server.lines if "cannot load" in line] == [
            f"cannot load {folder}/2: no memory", f"cannot load {folder}/2: [Errno 24] Too many open files",
        ]  # fmt: skip


def test_service_serves_the_newest_version_that_can_be_loaded_after_restart(folder, doubled):
    for version in (2, 3, 4):
        copy_version(doubled, folder, version)
    for version in (3, 4):
        (folder / str(version) / "saved_model.pb").write_bytes(b"nothing")
    with running(folder) as server:
        assert served(server) == [2] and [line.partition(":")[0] for line in server.lines] == [
            f"cannot load {folder}/4", f"cannot load {folder}/3", "serving sagan, version 2",
        ]  # fmt: skip


def test_service_polls_on_when_its_log_or_an_update_fails(folder, doubled, monkeypatch):
    def closed(line):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with running(folder) as server:
        service = server.server.service
        monkeypatch.setattr(service, "_log", closed)
        monkeypatch.setattr(service, "_list_versions", lambda: 1 / 0)
        time.sleep(0.2)
        monkeypatch.undo()
        monkeypatch.setattr(service, "_log", closed)
        copy_version(doubled, folder, 2)
        wait_until(lambda: served(server) == [2])


def test_service_loads_other_models_while_one_hangs(folder, doubled, tmp_path, monkeypatch):
    go_on = threading.Event()

    class Slow(LoadedVersion):
        def __init__(self, path, *arguments):
            if "hangs" in path:
                go_on.wait(30)
            super().__init__(path, *arguments)

    monkeypatch.setattr("sagan_tf.serving.service.LoadedVersion", Slow)
    with running(tmp_path) as server:
        (tmp_path / "hangs").mkdir()
        copy_version(doubled, tmp_path / "hangs", 1)
        time.sleep(0.2)
        copy_version(doubled, folder, 2)
        wait_until(lambda: served(server) == [2])
        assert server.get("/v1/models/hangs").status == 503
        go_on.set()
        wait_until(lambda: server.get("/v1/models/hangs").status == 200)


@pytest.mark.parametrize("name", ["assets.extra/tf_serving_warmup_requests", "variables/more", "fingerprint.pb"])
def test_service_rejects_version_with_a_pipe(folder, name):
    copy_version(folder / "1", folder, 2)
    path = folder / "2" / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with running(folder) as server:
        assert served(server) == [1] and f"{path}: is a pipe, a socket or a device" in server.lines[0]


def write_warm_up(version, label):
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(
        make_request(latent=np.zeros([1, 3], np.float32), label=np.array([label], np.int32))
    )
    extra = version / "assets.extra"
    extra.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())
        writer.write(log.SerializeToString())


def test_loaded_version_runs_warm_up_requests_before_it_is_served(folder):
    write_warm_up(folder / "1", label=0)
    assert LoadedVersion(str(folder / "1")).warm_up_count == 2
    copy_version(folder / "1", folder, 2)
    write_warm_up(folder / "2", label=99)
    with running(folder, Limits(poll_interval=60)) as server:
        # As in TensorFlow Serving, a version whose warm-up requests fail is not served.
        assert served(server) == [1] and "out of range" in server.lines[0]
