"""SavedModels of `sagan_tf.export` in TensorFlow Serving: loader, warm-up log, both protocols, the clients.

Tests of a running server use ours, and also TensorFlow Serving itself if `TF_MODEL_SERVER` names its program.
"""

import asyncio
import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from export.c_loader import Session
from export.generators import LATENT_DIM, NUM_CLASSES, make_inputs, make_toy_generator
from PIL import Image
from serving.models import direct
from serving.servers import call_in_threads, make_request, running, tensorflow_model_server
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, prediction_log_pb2

from sagan_tf.export import export_saved_model

SERVING = Path(__file__).resolve().parents[2] / "export" / "serving"
PROGRAM = os.environ.get("TF_MODEL_SERVER")
needs_program = pytest.mark.skipif(not PROGRAM, reason="TF_MODEL_SERVER does not name a tensorflow_model_server")
TOLERANCE = 1e-5  # float32 summation order depends on the batch size

# name -> {input: (type, shape)}, {output: (type, shape)}
FLOAT, INT32, INT64, STRING, BATCH = "DT_FLOAT", "DT_INT32", "DT_INT64", "DT_STRING", [-1]
LATENT, IMAGE = (FLOAT, [-1, LATENT_DIM]), (FLOAT, [-1, 32, 32, 3])
ENDS = {"start_seed": (INT64, BATCH), "end_seed": (INT64, BATCH), "start_label": (INT32, BATCH)}
SIGNATURES = {
    "serving_default": ({"latent": LATENT, "label": (INT32, BATCH)}, {"image": IMAGE}),
    "sample": (
        {"seed": (INT64, BATCH), "label": (INT32, BATCH), "truncation": (FLOAT, BATCH)},
        {"image_bytes": (STRING, BATCH)},
    ),
    "interpolate": (
        ENDS | {"end_label": (INT32, BATCH), "fraction": (FLOAT, BATCH), "truncation": (FLOAT, BATCH)},
        {"image_bytes": (STRING, BATCH)},
    ),
    "attention": (
        {"latent": LATENT, "label": (INT32, BATCH)},
        {"image": IMAGE, "attention_8": (FLOAT, [-1, 64, 16]), "attention_16": (FLOAT, [-1, 256, 64])},
    ),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export_saved_model(make_toy_generator(), tmp_path_factory.mktemp("export") / "sagan")


@pytest.fixture(scope="module")
def direct_call(exported):
    return direct(exported)


@pytest.fixture(scope="module", params=["ours", pytest.param("tensorflow_model_server", marks=needs_program)])
def server(request, exported):
    ours = request.param == "ours"
    with running(exported.parent) if ours else tensorflow_model_server(exported.parent, PROGRAM) as server:
        yield server


def load(name):
    """Imports a program of export/serving as a module."""
    sys.path.insert(0, str(SERVING))
    try:
        spec = importlib.util.spec_from_file_location(name, SERVING / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SERVING))
    return module


@pytest.fixture(scope="module")
def client():
    return load("client")


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)), np.int32)


def same_images(got, expected):
    """Whether PNG files are equal except for levels rounded differently by another summation order."""
    return len(got) == len(expected) and all(
        np.abs(pixels(a) - pixels(b)).max() <= 1 and np.mean(pixels(a) != pixels(b)) < 0.01
        for a, b in zip(got, expected)
    )


def described(signature_definitions):
    def sides(info):
        return tf.dtypes.as_dtype(info.dtype).as_datatype_enum, [dim.size for dim in info.tensor_shape.dim]

    return {
        name: tuple({key: sides(info) for key, info in side.items()} for side in (one.inputs, one.outputs))
        for name, one in signature_definitions.items()
        if one.method_name == "tensorflow/serving/predict"
    }


def expected_signatures():
    def sides(side):
        return {key: (getattr(tf, name[3:].lower()).as_datatype_enum, shape) for key, (name, shape) in side.items()}

    types = {FLOAT: "DT_FLOAT32"}
    named = {
        name: [{key: (types.get(kind, kind), shape) for key, (kind, shape) in side.items()} for side in both]
        for name, both in SIGNATURES.items()
    }
    return {name: tuple(map(sides, both)) for name, both in named.items()}


def test_c_loader_reads_the_signatures(exported):
    assert described(Session(exported).signatures) == expected_signatures()


def test_c_loader_matches_python(exported, direct_call):
    latent, label = make_inputs()
    session = Session(exported)
    for name in ("serving_default", "attention"):
        got, expected = session.run(name, latent=latent, label=label), direct_call[name](latent=latent, label=label)
        for key in expected:
            np.testing.assert_allclose(got[key], expected[key], atol=TOLERANCE)


def test_c_loader_replays_warm_up_requests(exported):
    session, seen = Session(exported), set()
    for record in tf.data.TFRecordDataset(str(exported / "assets.extra" / "tf_serving_warmup_requests")):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        seen.add(request.model_spec.signature_name)
        arrays = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        outputs = session.run(request.model_spec.signature_name, **arrays)
        assert outputs.keys() == session.signatures[request.model_spec.signature_name].outputs.keys()
        assert request.model_spec.name == "sagan"
    assert seen == SIGNATURES.keys()


def test_served_metadata_lists_the_signatures(server):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "sagan"
    with server.stubs() as (predictions, _):
        answer = predictions.GetModelMetadata(request, timeout=20)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures) and answer.model_spec.version.value == 1
    assert described(signatures.signature_def) == expected_signatures()
    rest = server.get("/v1/models/sagan/metadata").json["metadata"]["signature_def"]["signature_def"]
    assert SIGNATURES.keys() <= rest.keys()
    for name, (inputs, outputs) in SIGNATURES.items():
        for side, expected in (("inputs", inputs), ("outputs", outputs)):
            got = {
                key: (info["dtype"], [int(dim["size"]) for dim in info["tensor_shape"]["dim"]])
                for key, info in rest[name][side].items()
            }
            assert got == expected


def test_served_status_is_available_by_both_protocols(server):
    expected = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert server.get("/v1/models/sagan").json == {"model_version_status": [expected]}
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "sagan"
    with server.stubs() as (_, models):
        (entry,) = models.GetModelStatus(request, timeout=20).model_version_status
    assert (entry.version, entry.state) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE)


@pytest.mark.parametrize("name", ["serving_default", "attention"])
def test_served_predict_matches_direct_call(server, direct_call, name):
    latent, label = make_inputs(batch=3)
    expected = direct_call[name](latent=latent, label=label)
    rows = [{"latent": z, "label": y} for z, y in zip(latent.tolist(), label.tolist())]
    by_rows = server.predict({"signature_name": name, "instances": rows}).json["predictions"]
    columns = {"latent": latent.tolist(), "label": label.tolist()}
    by_columns = server.predict({"signature_name": name, "inputs": columns}).json["outputs"]
    with server.stubs() as (predictions, _):
        answer = predictions.Predict(make_request(name, latent=latent, label=label), timeout=30)
    for key, value in expected.items():
        single = len(expected) == 1
        np.testing.assert_allclose(by_rows if single else [row[key] for row in by_rows], value, atol=TOLERANCE)
        np.testing.assert_allclose(by_columns if single else by_columns[key], value, atol=TOLERANCE)
        np.testing.assert_allclose(tf.make_ndarray(answer.outputs[key]), value, atol=TOLERANCE)


SEEDS, LABELS, TRUNCATIONS = [7, -3, 2**40], [0, 4, 2], [1.0, 0.5, 6.0]


def test_client_program_matches_direct_call(server, client, direct_call):
    expected = direct_call["sample"](seed=SEEDS, label=LABELS, truncation=TRUNCATIONS)["image_bytes"].tolist()
    by_rest = client.sample_by_rest(SEEDS, LABELS, TRUNCATIONS, server.rest)
    by_grpc = client.sample_by_grpc(SEEDS, LABELS, TRUNCATIONS, server.grpc, version=1)
    assert same_images(by_rest, expected) and same_images(by_grpc, expected)
    assert not same_images(expected[:1], expected[1:2])


def test_served_predict_matches_direct_call_for_concurrent_clients(server, client, direct_call):
    seeds, labels = list(range(40)), [i % NUM_CLASSES for i in range(40)]
    expected = direct_call["sample"](seed=seeds, label=labels, truncation=[6.0] * 40)["image_bytes"].tolist()

    def ask(i):
        ask = client.sample_by_rest if i % 2 else client.sample_by_grpc
        return ask([i], [labels[i]], address=server.rest if i % 2 else server.grpc)[0]

    assert same_images(call_in_threads(ask, range(40)), expected)


def test_rest_rejects_bad_requests_as_tensorflow_serving(server):
    row = {"latent": [0.0] * LATENT_DIM, "label": 0}
    cases = [
        (b"{", 400, "JSON Parse error"),
        ({}, 400, "Missing 'inputs' or 'instances' key"),
        ({"signature_name": "nope", "instances": [row]}, 400, "not found in signature def"),
        ({"instances": [{"label": 0}]}, 400, "keys must be equal to: label,latent"),
        ({"inputs": {"label": [0]}}, 400, "Missing named input: latent"),
        ({"instances": [row | {"label": 0.5}]}, 400, "not of expected type: int32"),
        ({"instances": [row | {"latent": [0.0] * 3}]}, 400, "latent"),
        ({"instances": [row | {"label": NUM_CLASSES}]}, 400, "`label` must be in 0 .. 4"),
        ({"instances": [row | {"label": -1}]}, 400, "`label` must be in 0 .. 4"),
    ]
    for body, status, message in cases:
        answer = server.predict(body)
        assert answer.status == status and message in answer.json["error"], body
    unknown = "Servable not found for request: "
    assert server.predict({"instances": [row]}, model="other").status == 404
    assert f"{unknown}Latest(other)" in server.predict({"instances": [row]}, model="other").json["error"]
    answer = server.post("/v1/models/sagan/versions/9:predict", {"instances": [row]})
    assert answer.status == 404 and f"{unknown}Specific(sagan, 9)" in answer.json["error"]


@pytest.mark.parametrize(
    "request_, code",
    [
        (make_request("nope"), grpc.StatusCode.FAILED_PRECONDITION),
        (make_request("serving_default", label=np.zeros(1, np.int32)), grpc.StatusCode.INVALID_ARGUMENT),
        (make_request("serving_default", model="other"), grpc.StatusCode.NOT_FOUND),
        (make_request("serving_default", version=9), grpc.StatusCode.NOT_FOUND),
        (
            make_request("serving_default", latent=np.zeros([1, LATENT_DIM]), label=np.zeros(1, np.int32)),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
    ],
)
def test_grpc_rejects_bad_requests_as_tensorflow_serving(server, request_, code):
    with server.stubs() as (predictions, _), pytest.raises(grpc.RpcError) as caught:
        predictions.Predict(request_, timeout=20)
    assert caught.value.code() == code


def test_served_metrics_are_not_empty(server):
    if server.server is None:
        pytest.skip("TensorFlow Serving has them only with --monitoring_config_file")
    assert server.metrics()


def run_program(name, *arguments):
    return subprocess.run(
        [sys.executable, str(SERVING / name), *map(str, arguments)], capture_output=True, text=True, timeout=120,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip


def test_client_program_writes_image(server, client, tmp_path):
    # With -I and -S no package can be imported: REST needs only Python.
    picture = tmp_path / "picture.png"
    arguments = ["--seed", "7", "--label", "3", "--rest", server.rest, "--out", str(picture)]
    isolated = subprocess.run(
        [sys.executable, "-I", "-S", str(SERVING / "client.py"), *arguments], capture_output=True, text=True, timeout=60
    )
    assert isolated.returncode == 0, isolated.stderr
    assert pixels(picture.read_bytes()).shape == (32, 32, 3)
    assert same_images([picture.read_bytes()], client.sample_by_grpc([7], [3], address=server.grpc))


def test_client_program_reports_failures_in_one_line(server, client, tmp_path):
    for where in (["--rest", server.rest], ["--grpc", server.grpc]):
        with pytest.raises(SystemExit) as caught:
            client.main(["--label", "9", *where])
        assert "`label` must be in 0 .. 4" in caught.value.code and "\n" not in caught.value.code
    for address in ("http://127.0.0.1:9", "nowhere", f"http://{server.grpc}"):
        with pytest.raises(SystemExit) as caught:
            client.main(["--rest", address])
        assert f"error: {address} does not answer" in caught.value.code
    with pytest.raises(SystemExit) as caught:
        client.main(["--label", "1", "--rest", server.rest, "--out", str(tmp_path / "nowhere" / "image.png")])
    assert "No such file or directory" in caught.value.code


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_load_test_counts_requests(server, protocol):
    done = run_program(
        "load_test.py", f"--{protocol}", getattr(server, protocol), "--classes", NUM_CLASSES, "--clients", "1,4",
        "--seconds", "0.3", "--rows", "2", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["clients"] for line in lines] == [1, 4]
    for line in lines:
        assert line["failures"] == 0 and line["requests_per_second"] > 1
        assert 0 < line["p50_ms"] <= line["p95_ms"] <= line["p99_ms"] < 10_000


def test_load_test_says_when_no_request_began_after_the_warm_up(monkeypatch):
    monkeypatch.syspath_prepend(str(SERVING))
    load_test = importlib.import_module("load_test")

    async def call(i):
        await asyncio.sleep(0.2)
        return True

    with pytest.raises(
        SystemExit, match=r"^error: all requests began within the warm-up of 0.05 s. Use more --seconds"
    ):
        asyncio.run(load_test.measure(call, clients=2, seconds=0.05, warm_up=0.05))


def test_load_test_exits_with_1_when_requests_fail(server):
    for address in (server.rest, "http://127.0.0.1:9"):
        done = run_program("load_test.py", "--rest", address, "--classes", 50, "--clients", "2", "--seconds", "0.1")
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert int(done.stdout.splitlines()[1].rpartition("|")[2]) > 0
