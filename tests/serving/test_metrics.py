"""The metrics for Prometheus."""

import socket

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving.models import make_inputs
from serving.servers import make_request, running, wait_until

from sagan_tf.serving.limits import Limits


def test_server_metrics_are_prometheus_text_at_both_paths(live):
    live.predict({"inputs": make_inputs(1)})
    texts = [live.get(path) for path in ("/metrics", "/monitoring/prometheus/metrics")]
    assert [text.status for text in texts] == [200, 200]
    for text in texts:
        names = {family.name for family in text_string_to_metric_families(text.body.decode())}
        assert {f"sagan_serving_{name}" for name in ("requests", "request_seconds", "batch_rows", "version")} <= names


def test_server_metrics_count_requests_by_outcome(version_1):
    inputs = make_inputs(3)
    with running(version_1.parent) as server, server.stubs() as (predictions, _):
        for body in ({"inputs": inputs}, {"inputs": inputs}, {"inputs": inputs | {"label": [9] * 3}}):
            server.predict(body)
        server.predict({"signature_name": "made up", "inputs": inputs})
        server.predict({"inputs": inputs}, model="made-up")
        predictions.Predict(make_request("texts", text=[b"a", b"b"]), timeout=10)
        counted = server.metrics()
    requests = {key[1:]: value for key, value in counted.items() if key[0] == "sagan_serving_requests_total"}
    assert requests == {
        ("sagan", "rest", "serving_default", "200"): 2,
        ("sagan", "rest", "serving_default", "400"): 1,
        ("unknown", "rest", "unknown", "400"): 1,  # unknown names from clients are not recorded
        ("unknown", "rest", "unknown", "404"): 1,
        ("sagan", "grpc", "texts", "200"): 1,
    }
    assert counted["sagan_serving_batch_rows_sum", "sagan", "serving_default"] == 9
    assert counted["sagan_serving_request_seconds_count", "sagan", "serving_default"] == 2
    assert counted["sagan_serving_version", "sagan"] == 1
    run_seconds, request_seconds = (
        counted[f"sagan_serving_{name}_sum", "sagan", "texts"] for name in ("run_seconds", "request_seconds")
    )
    assert 0 < run_seconds < request_seconds < 10


def test_server_metrics_count_every_request_by_what_it_was(version_1):
    with running(version_1.parent, Limits(batch_timeout=60, poll_interval=60)) as server, server.stubs() as (stub, _):
        call = stub.Predict.future(make_request("texts", text=[b"a"]))
        batcher = server.server.service._served["sagan"].batchers["texts"]
        wait_until(lambda: batcher._queue)
        call.cancel()
        with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary("/tensorflow.serving.PredictionService/Predict")(b"\xff", timeout=10)
        for body in (b"{", b"[]", b'{"inputs": 1}', b""):
            server.predict(body)
        server.predict({"signature_name": "texts", "inputs": [1]})
        server.post("/v1/models/sagan:classify", b"")
        server.get("/nothing")
        host, port = server.rest.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(b"no HTTP\r\n\r\n")
            connection.recv(100)
        wait_until(lambda: ("sagan_serving_requests_total", "sagan", "grpc", "texts", "499") in server.metrics())
        metrics = server.metrics().items()
    counted = {key[1:]: value for key, value in metrics if key[0] == "sagan_serving_requests_total"}
    assert counted == {
        ("sagan", "grpc", "texts", "499"): 1,
        ("unknown", "grpc", "unknown", "400"): 1,
        ("sagan", "rest", "serving_default", "400"): 1,
        ("sagan", "rest", "texts", "400"): 1,
        ("unknown", "rest", "unknown", "400"): 5,
        ("unknown", "rest", "unknown", "404"): 1,
    }


def test_server_health_is_ok_when_a_version_is_served(live):
    assert live.get("/healthz").json == {"status": "ok"}
