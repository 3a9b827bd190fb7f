"""The service while versions appear and disappear on disk."""

import json
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
from sagan_tf.serving.loaded_version import LoadedVersion

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
