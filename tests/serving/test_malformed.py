"""Malformed requests: the server answers or rejects each, and keeps working."""

import http.client
import json
import math

import grpc
import numpy as np
import pytest
import tensorflow as tf
from damage import places, replaced, tries
from hypothesis import given
from hypothesis import strategies as st
from serving.servers import make_request
from tensorflow.core.framework import tensor_pb2

from sagan_tf.serving import grpc_server
from sagan_tf.serving.loaded_version import TensorInfo

GOOD = {
    "rows": {"instances": [{"latent": [1.0, 2.0, 3.0], "label": 0}, {"latent": [0.5, 0.0, 1.0], "label": 4}]},
    "columns": {"inputs": {"latent": [[1.0, 2.0, 3.0]], "label": [0]}},
    "sample": {"signature_name": "sample", "instances": [{"seed": 1, "label": 0, "truncation": 1.0}]},
    "texts": {"signature_name": "texts", "inputs": ["a", {"b64": "YWJj"}]},
    "no_batch": {"signature_name": "no_batch", "inputs": [[1.0, 2.0], [3.0, 4.0]]},
}
WORDS = st.sampled_from(
    ["instances", "inputs", "signature_name", "b64", "latent", "label", "seed", "text", "serving_default", "sample", ""]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def nearly_right(draw):
    body = draw(st.sampled_from(list(GOOD.values())))
    return replaced(body, draw(st.sampled_from(list(places(body)))), draw(VALUES))


@pytest.fixture(scope="module")
def post(live):
    """Sends bytes over one connection, which must stay open for all requests."""
    connection = http.client.HTTPConnection(live.rest.removeprefix("http://"), timeout=20)

    def send(body, path="/v1/models/sagan:predict"):
        connection.request("POST", path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()

    yield send
    connection.close()


def check(status, body):
    assert status in (200, 400, 404), body
    answer = json.loads(body)
    if status == 200:
        assert answer.keys() in ({"predictions"}, {"outputs"})
    else:
        assert answer.keys() == {"error"} and answer["error"]


def test_server_answers_unchanged_requests(post):
    assert [post(json.dumps(body))[0] for body in GOOD.values()] == [200] * len(GOOD)


@tries(250)
@given(nearly_right() | VALUES)
def test_rest_answers_or_rejects_malformed_json(post, body):
    check(*post(json.dumps(body)))


@tries(100)
@given(st.binary(max_size=60), st.sampled_from([json.dumps(body).encode() for body in GOOD.values()]), st.data())
def test_rest_answers_or_rejects_malformed_bytes(post, noise, body, data):
    cut = data.draw(st.integers(0, len(body)))
    check(*post(body[:cut] + noise + body[cut + data.draw(st.integers(0, 3)) :]))


@pytest.mark.parametrize("depth", [100, 1_000, 100_000])
@pytest.mark.parametrize("frame", [b"%s", b'{"inputs": %s}', b'{"instances": [{"latent": %s, "label": 0}]}'])
def test_rest_rejects_deep_nesting(post, depth, frame):
    assert post(frame % (b"[" * depth + b"]" * depth))[0] == 400


def test_rest_rejects_strings_among_numbers_without_using_memory(post):
    # As a NumPy array of fixed-width strings this would take 60 GB.
    texts = ["x" * 1_000_000, *["1"] * 15_000]
    status, body = post(json.dumps({"inputs": {"latent": [texts], "label": [0]}}))
    assert status == 400 and "latent" in json.loads(body)["error"]


TENSORS = st.builds(
    lambda fields, shape: make_tensor(shape, **fields),
    st.fixed_dictionaries(
        {"dtype": st.integers(0, 25)},
        optional={
            "tensor_content": st.binary(max_size=40),
            "float_val": st.lists(st.floats(width=32), max_size=7),
            "int_val": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
            "string_val": st.lists(st.binary(max_size=4), max_size=4),
        },
    ),
    st.lists(st.integers(-2, 2**40) | st.integers(0, 3), max_size=4),
)


def make_tensor(shape, **fields):
    tensor = tensor_pb2.TensorProto(**fields)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


@tries(150)
@given(TENSORS, st.sampled_from(["latent", "label"]))
def test_grpc_answers_or_rejects_malformed_tensors(live, tensor, name):
    request = make_request(latent=np.zeros([1, 3], np.float32), label=np.zeros(1, np.int32))
    request.inputs[name].CopyFrom(tensor)
    check_rpc(live, request)


@tries(50)
@given(st.floats(width=32), st.integers(0, 3))
def test_grpc_answers_tensors_with_rows(live, value, rows):
    content = np.full([rows, 3], value, np.float32).tobytes()
    request = make_request(label=np.zeros(rows, np.int32))
    request.inputs["latent"].CopyFrom(make_tensor([rows, 3], dtype=1, tensor_content=content))
    assert check_rpc(live, request) == (rows > 0)


FIELDS = {"float32": "float_val", "float64": "double_val", "int32": "int_val", "int64": "int64_val", "uint8": "int_val"}


@tries(150)
@given(st.sampled_from(sorted(FIELDS)), st.lists(st.integers(1, 3), max_size=3), st.data())
def test_grpc_decode_matches_make_ndarray(name, shape, data):
    """In every form of a TensorProto: bytes, one value per element, fewer values, or both."""
    dtype, count = np.dtype(name), math.prod(shape)
    tensor = make_tensor(shape, dtype=tf.as_dtype(dtype).as_datatype_enum)
    getattr(tensor, FIELDS[name]).extend(data.draw(st.lists(st.integers(0, 100), min_size=1, max_size=count)))
    if data.draw(st.booleans()):
        values = data.draw(st.lists(st.integers(0, 100), min_size=count, max_size=count))
        tensor.tensor_content = np.array(values, dtype).tobytes()
    array = grpc_server._decode("x", tensor, TensorInfo(dtype, None, "x:0"), 1000)
    np.testing.assert_array_equal(array, tf.make_ndarray(tensor), strict=True)


def check_rpc(live, request):
    with live.stubs() as (predictions, _):
        try:
            return bool(predictions.Predict(request, timeout=20).outputs)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT and error.details()
            return False
