"""Test servers on free ports, and clients for them."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import tensorflow as tf
from prometheus_client.parser import text_string_to_metric_families
from tensorflow_serving.apis import model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc

from sagan_tf.serving.limits import Limits
from sagan_tf.serving.server import Server, new_event_loop

QUICK = Limits(poll_interval=0.05, drain=5)


@dataclass
class Response:
    """An HTTP response: `status`, `body` in bytes, and `json`, None if the body is not JSON."""

    status: int
    body: bytes

    @property
    def json(self):
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass
class Running:
    """A server, ours or TensorFlow Serving's.

    Args:
        rest: "http://host:port".
        grpc: "host:port".
        lines: list of the lines it printed, for our server.
        server: Server, for our server.
    """

    rest: str
    grpc: str
    lines: list = field(default_factory=list)
    server: object = None

    def get(self, path):
        return self._send(urllib.request.Request(self.rest + path))

    def post(self, path, body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._send(urllib.request.Request(self.rest + path, data=data))

    def predict(self, body, model="sagan"):
        return self.post(f"/v1/models/{model}:predict", body)

    @staticmethod
    def _send(request):
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return Response(response.status, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Response(error.code, error.read())

    @contextlib.contextmanager
    def stubs(self):
        """Yields (PredictionServiceStub, ModelServiceStub)."""
        with grpc.insecure_channel(self.grpc) as channel:
            yield (
                prediction_service_pb2_grpc.PredictionServiceStub(channel),
                model_service_pb2_grpc.ModelServiceStub(channel),
            )

    def metrics(self):
        """dict, (name, label values in the labels' order) -> value."""
        families = text_string_to_metric_families(self.get("/monitoring/prometheus/metrics").body.decode())
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }


def make_request(signature="", model="sagan", version=None, **arrays):
    """Returns a PredictRequest of NumPy arrays."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    if version is not None:
        request.model_spec.version.value = version
    for name, array in arrays.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    return request


def wait_until(condition, seconds=20):
    """Waits for a condition; raises TimeoutError."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"no success within {seconds} s")
        time.sleep(0.02)


def wait_until_read(server):
    """Returns when the server has read what was sent to its REST port before."""
    for _ in range(3):  # one event loop reads all connections
        server.get("/healthz")


def call_in_threads(function, arguments, workers=16):
    """Returns [function(argument), ...], called in threads."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, arguments))


@contextlib.contextmanager
def running(folder, limits=QUICK):
    """Runs our server in a thread; yields a `Running`."""
    lines, ready, loop, stop = [], threading.Event(), new_event_loop(), asyncio.Event()
    server = Server(folder, limits, log=lines.append)

    async def serve():
        try:
            await server.start()
        finally:
            ready.set()
        await stop.wait()
        await server.stop()

    thread = threading.Thread(target=_run, args=(loop, serve()))
    thread.start()
    ready.wait(60)
    try:
        yield Running(f"http://{server.rest_address}", server.grpc_address, lines, server)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)


def _run(loop, main):
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main)


@contextlib.contextmanager
def tensorflow_model_server(folder, program):
    """Runs TensorFlow Serving (`program`) as a process for a model's folder; yields a `Running`."""
    rest, rpc = _free_port(), _free_port()
    process = subprocess.Popen(
        [program, f"--port={rpc}", f"--rest_api_port={rest}", "--model_name=sagan", f"--model_base_path={folder}",
         "--enable_batching=true", "--file_system_poll_wait_seconds=1"],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
    )  # fmt: skip
    try:
        server = Running(f"http://127.0.0.1:{rest}", f"127.0.0.1:{rpc}")
        wait_until(lambda: _is_available(server), 120)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def _is_available(server):
    try:
        return server.get("/v1/models/sagan").json["model_version_status"][0]["state"] == "AVAILABLE"
    except (OSError, KeyError, TypeError):
        return False


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
