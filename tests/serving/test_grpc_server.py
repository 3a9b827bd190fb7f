"""The gRPC API against direct calls of the same SavedModel."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from serving.models import make_inputs
from serving.servers import QUICK, make_request, running
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from sagan_tf.serving.limits import Limits

CODE = grpc.StatusCode


@pytest.fixture(scope="module")
def stubs(live):
    with live.stubs() as stubs:
        yield stubs


@pytest.fixture
def predict(stubs):
    return lambda request: stubs[0].Predict(request, timeout=20)


def arrays(rows, seed=0):
    inputs = make_inputs(rows, seed)
    return {"latent": np.array(inputs["latent"], np.float32), "label": np.array(inputs["label"], np.int32)}


def outputs_of(answer):
    return {name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_grpc_predict_matches_direct_call(predict, call, rows):
    inputs = arrays(rows)
    for name in ("serving_default", "attention"):
        outputs, expected = outputs_of(predict(make_request(name, **inputs))), call[name](**inputs)
        assert outputs.keys() == expected.keys()
        for key in expected:
            assert outputs[key].dtype == expected[key].dtype
            np.testing.assert_array_equal(outputs[key], expected[key])


def test_grpc_predict_returns_images_as_bytes(predict, call):
    inputs = {"seed": np.array([1, 2], np.int64), "label": np.array([0, 4], np.int32)}
    inputs["truncation"] = np.array([1, 0.5], np.float32)
    answer = predict(make_request("sample", **inputs))
    assert list(answer.outputs["image_bytes"].string_val) == call["sample"](**inputs)["image_bytes"].tolist()
    assert answer.outputs["image_bytes"].dtype == types_pb2.DT_STRING


def test_grpc_predict_handles_scalars_strings_and_several_axes(predict):
    total = predict(make_request("no_batch", matrix=np.array([[1, 2], [3, 4.5]])))
    assert tf.make_ndarray(total.outputs["total"]) == 10.5 and not total.outputs["total"].tensor_shape.dim
    texts = predict(make_request("texts", text=np.array([b"ab", b"c"], object)))
    assert tf.make_ndarray(texts.outputs["text"]).tolist() == [b"ab!", b"c!"]


def test_grpc_response_names_model_version_and_signature(predict):
    spec = predict(make_request(**arrays(1))).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("sagan", 1, "serving_default")


def test_grpc_predict_applies_output_filter(predict, call):
    inputs = arrays(2)
    request = make_request("attention", **inputs)
    request.output_filter.append("map")
    outputs = outputs_of(predict(request))
    assert list(outputs) == ["map"]
    np.testing.assert_array_equal(outputs["map"], call["attention"](**inputs)["map"])


def test_grpc_predict_reads_tensors_without_tensor_content(predict, call):
    inputs = arrays(2)
    request = make_request(label=inputs["label"])
    latent = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=inputs["latent"].reshape(-1).tolist())
    for size in inputs["latent"].shape:
        latent.tensor_shape.dim.add(size=size)
    request.inputs["latent"].CopyFrom(latent)
    expected = call["serving_default"](**inputs)["image"]
    np.testing.assert_array_equal(outputs_of(predict(request))["image"], expected)


def refusal(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def changed(change):
    request = make_request(**arrays(2))
    change(request)
    return request


def label_for(request, name):
    request.model_spec.version_label = name


def forge(request, shape, **fields):
    tensor = request.inputs["latent"]
    tensor.Clear()
    tensor.MergeFrom(tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, **fields))
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)


BAD = {
    "model": (make_request(model="other", **arrays(1)), CODE.NOT_FOUND, "Latest(other)"),
    "long name": (make_request(model="😀" * 3000, **arrays(1)), CODE.NOT_FOUND, "Latest(😀😀"),
    "version": (make_request(version=9, **arrays(1)), CODE.NOT_FOUND, "Specific(sagan, 9)"),
    "label of a version": (
        changed(lambda q: label_for(q, "stable")), CODE.INVALID_ARGUMENT, "Unrecognized servable version label: stable"
    ),
    "signature": (make_request("nope", **arrays(1)), CODE.FAILED_PRECONDITION, '"nope" not found'),
    "missing": (changed(lambda q: q.inputs.pop("label")), CODE.INVALID_ARGUMENT, "Missing but required: {label}"),
    "extra": (
        changed(lambda q: q.inputs["more"].CopyFrom(q.inputs["label"])), CODE.INVALID_ARGUMENT, "Sent extra: {more}"
    ),
    "type": (
        make_request(latent=np.zeros([1, 3]), label=np.zeros(1, np.int32)), CODE.INVALID_ARGUMENT, "type float32"
    ),
    "shape": (
        make_request(latent=np.zeros([1, 4], np.float32), label=np.zeros(1, np.int32)),
        CODE.INVALID_ARGUMENT, "[any, 3]",
    ),
    "batches": (make_request(**arrays(2) | {"label": np.zeros(3, np.int32)}), CODE.INVALID_ARGUMENT, "same number"),
    "label": (make_request(**arrays(2) | {"label": np.array([0, 5], np.int32)}), CODE.INVALID_ARGUMENT, "out of range"),
    "rows": (make_request(**arrays(65)), CODE.INVALID_ARGUMENT, "Task size 65"),
    "filter": (changed(lambda q: q.output_filter.append("nope")), CODE.INVALID_ARGUMENT, "nope"),
    "a few bytes that stand for many": (
        changed(lambda q: forge(q, [2**40, 3], float_val=[1.0])), CODE.INVALID_ARGUMENT, "cannot have the shape"
    ),
    "bytes that do not fit": (
        changed(lambda q: forge(q, [2, 3], tensor_content=b"123")), CODE.INVALID_ARGUMENT, "is not a tensor"
    ),
    "size below 0": (changed(lambda q: forge(q, [-1, 3])), CODE.INVALID_ARGUMENT, "cannot have the shape"),
}  # fmt: skip


@pytest.mark.parametrize("request_, code, reason", BAD.values(), ids=BAD.keys())
def test_grpc_predict_rejects_bad_request_with_code_and_reason(predict, request_, code, reason):
    got, details = refusal(lambda: predict(request_))
    assert got == code and reason in details


def test_grpc_bad_request_does_not_fail_others_in_its_batch(version_1, call):
    limits = Limits(batch_timeout=60, max_batch_size=3)  # one batch, as soon as both requests are there
    with running(version_1.parent, limits) as server, server.stubs() as (predictions, _):
        good = predictions.Predict.future(make_request(**arrays(2)), timeout=20)
        bad = predictions.Predict.future(make_request(**arrays(1) | {"label": np.array([5], np.int32)}), timeout=20)
        np.testing.assert_array_equal(outputs_of(good.result())["image"], call["serving_default"](**arrays(2))["image"])
        assert refusal(bad.result)[0] == CODE.INVALID_ARGUMENT
        # First together, then one by one.
        assert server.metrics()["sagan_serving_batch_rows_count", "sagan", "serving_default"] == 3


def test_grpc_status_is_available_or_not_found(stubs):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "sagan"
    (entry,) = stubs[1].GetModelStatus(request, timeout=10).model_version_status
    assert entry.version == 1 and entry.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
    request.model_spec.version.value = 3
    assert refusal(lambda: stubs[1].GetModelStatus(request, timeout=10)) == (
        CODE.NOT_FOUND, "Could not find version 3 of model sagan",
    )  # fmt: skip


def test_grpc_metadata_rejects_other_fields_than_signature_def(stubs):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["something"])
    request.model_spec.name = "sagan"
    assert refusal(lambda: stubs[0].GetModelMetadata(request, timeout=10))[0] == CODE.INVALID_ARGUMENT


def test_grpc_server_rejects_large_message(version_1):
    limits = Limits(max_body=4_000, poll_interval=QUICK.poll_interval)
    with running(version_1.parent, limits) as server, server.stubs() as (predictions, _):
        request = make_request("texts", text=np.array([b"x" * 5_000], object))
        assert refusal(lambda: predictions.Predict(request, timeout=10))[0] == CODE.RESOURCE_EXHAUSTED
        assert predictions.Predict(make_request(**arrays(1)), timeout=10).outputs
