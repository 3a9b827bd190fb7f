"""The REST API against direct calls of the same SavedModel."""

import base64
import json
import socket

import numpy as np
import pytest
from serving.models import make_inputs
from serving.servers import QUICK, running
from tensorflow_serving.apis import get_model_metadata_pb2

from sagan_tf.serving import json_codec
from sagan_tf.serving.json_codec import encode_outputs
from sagan_tf.serving.limits import Limits


def rows_of(columns):
    return [dict(zip(columns, row)) for row in zip(*columns.values())]


def decoded(value):
    return base64.b64decode(value["b64"])


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_rest_predict_matches_direct_call_by_rows_and_columns(live, call, rows):
    inputs = make_inputs(rows)
    expected = call["serving_default"](**inputs)["image"]
    row, column = live.predict({"instances": rows_of(inputs)}), live.predict({"inputs": inputs})
    assert row.status == column.status == 200
    np.testing.assert_allclose(row.json["predictions"], expected, rtol=1e-6)
    np.testing.assert_array_equal(row.json["predictions"], column.json["outputs"])


@pytest.mark.parametrize("shape", [(2, 400, 300), (1, 2, 300, 300), (2, 70_000), (2, 3), (3,)], ids=str)
def test_encode_outputs_encodes_large_rows_in_parts(shape, monkeypatch):
    sizes, dumps = [], json_codec._dumps
    monkeypatch.setattr(json_codec, "_dumps", lambda value: sizes.append(np.size(value)) or dumps(value))
    array = np.random.default_rng(0).normal(size=shape).astype("float32")
    one, two = {"x": array}, {"x": array, "y": -array}
    np.testing.assert_array_equal(np.float32(json.loads(encode_outputs(one, "instances"))["predictions"]), array)
    np.testing.assert_array_equal(np.float32(json.loads(encode_outputs(two, "inputs"))["outputs"]["y"]), -array)
    rows = json.loads(encode_outputs(two, "instances"))["predictions"]
    np.testing.assert_array_equal(np.float32([row["y"] for row in rows]), -array)
    assert max(sizes) <= max(1 << 14, shape[-1])


def test_rest_predict_names_several_outputs(live, call):
    inputs = make_inputs(3)
    expected = call["attention"](**inputs)
    rows = live.predict({"signature_name": "attention", "instances": rows_of(inputs)}).json["predictions"]
    columns = live.predict({"signature_name": "attention", "inputs": inputs}).json["outputs"]
    assert len(rows) == 3 and all(row.keys() == expected.keys() == columns.keys() for row in rows)
    for name, value in expected.items():
        np.testing.assert_allclose([row[name] for row in rows], value, rtol=1e-6)
        np.testing.assert_allclose(columns[name], value, rtol=1e-6)


def test_rest_predict_returns_images_in_base64(live, call):
    inputs = {"seed": [1, 2**40], "label": [0, 4], "truncation": [1.0, 0.5]}
    expected = call["sample"](**inputs)["image_bytes"].tolist()
    rows = live.predict({"signature_name": "sample", "instances": rows_of(inputs)}).json["predictions"]
    columns = live.predict({"signature_name": "sample", "inputs": inputs}).json["outputs"]
    assert [decoded(value) for value in rows] == [decoded(value) for value in columns] == expected


def test_rest_predict_accepts_single_input_without_name_and_strings(live):
    texts = ["grün", {"b64": base64.b64encode(b"abc").decode()}]
    for body in ({"instances": texts}, {"instances": [{"text": text} for text in texts]}):
        assert live.predict(body | {"signature_name": "texts"}).json == {
            "predictions": [{"is_abc": 0, "text": "grün!"}, {"is_abc": 1, "text": "abc!"}]
        }
    for body in ({"inputs": texts}, {"inputs": {"text": texts}}):
        outputs = live.predict(body | {"signature_name": "texts"}).json["outputs"]
        assert outputs == {"is_abc": [0, 1], "text": ["grün!", "abc!"]}


def test_rest_predict_accepts_only_columns_without_batch_axis(live):
    body = {"signature_name": "no_batch", "inputs": [[1, 2], [3, 4.5]]}
    assert live.predict(body).json == {"outputs": 10.5}
    by_rows = live.predict({"signature_name": "no_batch", "instances": [[1, 2], [3, 4]]})
    assert by_rows.status == 400 and "inputs" in by_rows.json["error"]


def test_rest_predict_reads_version_from_path(live):
    inputs = make_inputs(1)
    right = live.post("/v1/models/sagan/versions/1:predict", {"inputs": inputs})
    assert right.status == 200 and right.json == live.predict({"inputs": inputs}).json


def test_rest_status_is_available(live):
    expected = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("/v1/models/sagan", "/v1/models/sagan/versions/1"):
        assert live.get(path).json == {"model_version_status": [expected]}


def test_rest_metadata_lists_the_signatures(live, version_1):
    metadata = live.get("/v1/models/sagan/metadata").json
    assert metadata["model_spec"] == {"name": "sagan", "signature_name": "", "version": "1"}
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "attention", "sample", "texts", "no_batch"}
    latent = signatures["serving_default"]["inputs"]["latent"]
    assert latent["dtype"] == "DT_FLOAT" and [dim["size"] for dim in latent["tensor_shape"]["dim"]] == ["-1", "3"]
    with live.stubs() as (predictions, _):
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = "sagan"
        answer = predictions.GetModelMetadata(request, timeout=10)
    by_grpc = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(by_grpc)
    assert by_grpc.signature_def.keys() == signatures.keys()
    assert by_grpc.signature_def["sample"].inputs["seed"].name == signatures["sample"]["inputs"]["seed"]["name"]


GOOD = {"latent": [[1.0, 2.0, 3.0]], "label": [0]}
ROW = {"latent": [1.0, 2.0, 3.0], "label": 0}
BAD = {
    "not JSON": (b"{", "JSON Parse error"),
    "empty": (b"", "JSON Parse error"),
    "no object": ([1], "JSON object"),
    "neither form": ({"signature_name": "sample"}, "Missing 'inputs' or 'instances' key"),
    "both forms": ({"inputs": GOOD, "instances": [ROW]}, "only one of"),
    "signature is not a string": ({"signature_name": 3, "inputs": GOOD}, "signature_name"),
    "unknown signature": (
        {"signature_name": "nope", "inputs": GOOD}, 'Serving signature name: "nope" not found in signature def'
    ),
    "no rows": ({"instances": []}, "instances"),
    "rows are not a list": ({"instances": ROW}, "instances"),
    "plain rows": ({"instances": [[1.0, 2.0, 3.0]]}, "must be named"),
    "missing input in a row": ({"instances": [ROW, {"label": 0}]}, "element: 1 of 'instances'"),
    "unknown input in a row": ({"instances": [ROW | {"more": 1}]}, "element: 0 of 'instances'"),
    "missing input": ({"inputs": {"label": [0]}}, "Missing named input: latent"),
    "wrong size": ({"inputs": GOOD | {"latent": [[1.0, 2.0]]}}, "latent must have the shape [any, 3]"),
    "wrong rank": ({"inputs": GOOD | {"latent": [1.0, 2.0, 3.0]}}, "latent must have the shape [any, 3]"),
    "scalar": ({"inputs": GOOD | {"label": 0}}, "label must have the shape [any]"),
    "no row": ({"inputs": {"latent": [], "label": []}}, "must have the shape"),
    "ragged": ({"instances": [ROW, ROW | {"latent": [1.0]}]}, "latent must be a full array"),
    "too deep in places": ({"inputs": GOOD | {"latent": [[1.0, [2.0], 3.0]]}}, "latent"),
    "batches differ": ({"inputs": GOOD | {"label": [0, 1]}}, "same number of rows"),
    "fraction for an integer": ({"inputs": GOOD | {"label": [0.5]}}, "not of expected type: int32"),
    "1.0 for an integer": ({"inputs": GOOD | {"label": [1.0]}}, "not of expected type: int32"),
    "true for an integer": ({"inputs": GOOD | {"label": [True]}}, "not of expected type: int32"),
    "text for a number": ({"inputs": GOOD | {"latent": [["1", "2", "3"]]}}, "not of expected type: float32"),
    "null": ({"inputs": GOOD | {"latent": [[1, None, 3]]}}, "not of expected type: float32"),
    "integer too large": ({"inputs": GOOD | {"label": [2**40]}}, "does not fit into int32"),
    "float too large": ({"inputs": GOOD | {"latent": [[1e300, 0, 0]]}}, "does not fit into float32"),
    "label out of range": ({"inputs": GOOD | {"label": [5]}}, "label out of range"),
    "label below 0": ({"instances": [ROW | {"label": -1}]}, "label out of range"),
    "not base64": ({"signature_name": "texts", "inputs": [{"b64": "%"}]}, "base64"),
    "base64 of a number": ({"signature_name": "texts", "inputs": [{"b64": 3}]}, "base64"),
    "too many rows": ({"instances": [ROW] * 65}, "Task size 65 is larger than maximum input batch size 64"),
}  # fmt: skip


@pytest.mark.parametrize("body, reason", BAD.values(), ids=BAD.keys())
def test_rest_predict_rejects_bad_request_with_400_and_reason(live, body, reason):
    answer = live.predict(body)
    assert answer.status == 400 and reason in answer.json["error"]


@pytest.mark.parametrize(
    "path, status, reason",
    [
        ("/v1/models/other:predict", 404, "Servable not found for request: Latest(other)"),
        ("/v1/models/sagan/versions/99:predict", 404, "Servable not found for request: Specific(sagan, 99)"),
        (f"/v1/models/sagan/versions/{2**64}:predict", 400, "Failed to convert version"),
        ("/v1/models/sagan:classify", 400, "Malformed request: POST /v1/models/sagan:classify"),
        ("/v1/models/sagan", 400, "Malformed request"),
        ("/v1/models", 400, "Malformed request"),
        ("/elsewhere", 404, "Not Found"),
    ],
)
def test_rest_rejects_unknown_path_of_post(live, path, status, reason):
    answer = live.post(path, {"inputs": GOOD})
    assert answer.status == status and reason in answer.json["error"]


@pytest.mark.parametrize(
    "path, status",
    [
        ("/v1/models/other", 404), ("/v1/models/other/metadata", 404), ("/v1/models/sagan/versions/9", 404),
        ("/v1/models/sagan:predict", 400), ("/v1/models/sagan/labels/stable", 400),
    ],
)  # fmt: skip
def test_rest_rejects_unknown_path_of_get(live, path, status):
    answer = live.get(path)
    assert answer.status == status and answer.json["error"]


def test_rest_rejects_large_body_and_continues(version_1):
    limits = Limits(max_body=10_000, poll_interval=QUICK.poll_interval)
    with running(version_1.parent, limits) as server:
        address = server.rest.removeprefix("http://").split(":")
        with socket.create_connection((address[0], int(address[1])), timeout=10) as connection:
            connection.sendall(
                b"POST /v1/models/sagan:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
                + b" " * 20_000
            )
            assert connection.recv(1000).startswith(b"HTTP/1.1 413")
        body = json.dumps({"inputs": GOOD}).encode()
        assert server.predict(body + b" " * (10_000 - len(body))).status == 200
        assert server.predict(body + b" " * (10_001 - len(body))).status == 413
