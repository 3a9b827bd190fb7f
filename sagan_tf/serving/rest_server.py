"""TensorFlow Serving's REST API: predict, status and metadata of `/v1/models/NAME[/versions/N]`; health and metrics.

Source: https://www.tensorflow.org/tfx/serving/api_rest.
"""

import asyncio
import logging
import re
import time

import orjson
from aiohttp import http, web
from aiohttp.abc import AbstractAccessLogger
from google.protobuf import json_format
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from tensorflow_serving.apis import get_model_metadata_pb2

from sagan_tf.serving.bodies import BodyReceiver, decompress
from sagan_tf.serving.connections import ConnectionFactory, check_origin
from sagan_tf.serving.errors import CLIENT_CLOSED, RequestError
from sagan_tf.serving.json_codec import decode_inputs, encode_outputs, parse_request
from sagan_tf.serving.loaded_version import DEFAULT_SIGNATURE
from sagan_tf.serving.responses import metadata_response, status_response

_PREDICT = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?:predict")
_DESCRIBE = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(/metadata)?")
_MONITORING = ("/healthz", "/metrics", "/monitoring/prometheus/metrics")
_MAX_VERSION = 2**63 - 1
_LABELS = web.RequestKey("labels", tuple)  # (model, signature), for the metrics
_READ_BUFFER = 1 << 16  # bytes per connection, before the body is counted
_LINGER_SECONDS = 1.0  # for clients to learn that the server stops, on a connection of theirs
_quiet = logging.getLogger("sagan_tf.serving.http")  # aiohttp's tracebacks for malformed requests
_quiet.setLevel(logging.CRITICAL + 1)


class RestServer:
    """An HTTP server that answers requests from a `Service`.

    Args:
        service: `Service`.
    """

    def __init__(self, service):
        self._service, self._limits = service, service.limits
        app = web.Application(client_max_size=self._limits.max_body, middlewares=[self._answer])
        handlers = _Handlers(service)
        app.router.add_get("/healthz", handlers.health)
        for path in _MONITORING[1:]:
            app.router.add_get(path, handlers.metrics)
        app.router.add_route("*", "/v1/{rest:.*}", handlers.model)
        self._runner = web.AppRunner(
            app, access_log_class=_counter(service.metrics), logger=_quiet, auto_decompress=False,
            keepalive_timeout=self._limits.client_timeout, read_bufsize=_READ_BUFFER, lingering_time=2.0,
            shutdown_timeout=max(self._limits.drain - _LINGER_SECONDS, 0.1),
        )  # fmt: skip
        self._listener = self._connections = None

    async def start(self, host, port):
        """Listens; returns the port."""
        await self._runner.setup()
        server = self._runner.server
        server.request_handler = _with_readable_expect(server.request_handler)
        self._connections = ConnectionFactory(server, self._limits.max_connections)
        self._listener = await asyncio.get_running_loop().create_server(
            self._connections, host, port, backlog=self._limits.max_connections
        )
        return self._listener.sockets[0].getsockname()[1]

    async def stop(self):
        """Answers all requests with `Connection: close`, waits for those that run, and closes all connections."""
        if self._listener:
            end = time.monotonic() + min(_LINGER_SECONDS, self._limits.drain)
            while self._connections.connections and time.monotonic() < end:
                await asyncio.sleep(0.05)
            self._listener.close()
        await self._runner.cleanup()

    @web.middleware
    async def _answer(self, request, handler):
        """Sends what a handler returns or raises, within the time that a client has."""
        self._connections.busy.add(request.protocol)
        try:
            response = await self._respond(request, handler)
            if self._service.stopping:
                response.force_close()
            async with asyncio.timeout(self._limits.client_timeout):
                await response.prepare(request)
                await response.write_eof()
            return response
        except OSError:  # the client does not read, or has gone
            if request.transport:
                request.transport.abort()
            return response
        finally:
            self._connections.busy.discard(request.protocol)

    async def _respond(self, request, handler):
        try:
            check_origin(request, self._limits.allowed_hosts)
            return await handler(request)
        except RequestError as error:
            return _error(str(error), error.status)
        except web.HTTPException as error:
            return _error(error.text or error.reason, error.status)
        except http.HttpProcessingError as error:  # in the body
            return _error(error.message, 400)
        except OSError:
            return _error("The client has closed the connection.", CLIENT_CLOSED)
        except Exception:
            logging.exception("%s %s", request.method, request.path[:200])
            return _error("Internal error; the server's log has the reason", 500)


def _counter(metrics):
    """Returns a class for aiohttp that counts requests, also those that are not HTTP, instead of logging them."""

    class Counter(AbstractAccessLogger):
        def log(self, request, response, time):
            if request.path not in _MONITORING:
                metrics.count(*request.get(_LABELS, ("unknown", "unknown")), "rest", response.status).inc()

    return Counter


def _with_readable_expect(handler):
    """Wraps aiohttp's handler, which fails at an `Expect` header that is not UTF-8 before any middleware runs."""

    async def handle(request):
        if not request.headers.get("Expect", "").isascii():
            return _error("The Expect header is malformed.", 400)
        return await handler(request)

    return handle


def _error(message, status):
    message = message.encode(errors="replace").decode()  # it may quote a header that is not UTF-8
    return web.Response(body=orjson.dumps({"error": message}), status=status, content_type="application/json")


class _Handlers:
    def __init__(self, service):
        self.service, self._bodies = service, BodyReceiver(service.limits)

    async def health(self, request):
        if self.service.stopping or not self.service.models:
            raise RequestError("stopping" if self.service.stopping else "no version of a model is available", 503)
        return web.json_response({"status": "ok"})

    async def metrics(self, request):
        text = generate_latest(self.service.metrics.registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def model(self, request):
        if request.method == "POST" and (match := _PREDICT.fullmatch(request.path)):
            return await self._predict(request, match[1], _version(match[2]))
        if request.method == "GET" and (match := _DESCRIBE.fullmatch(request.path)):
            describe = _metadata if match[3] else _status
            value = describe(self.service, match[1], _version(match[2]))
            return web.Response(body=orjson.dumps(value), content_type="application/json")
        raise RequestError(f"Malformed request: {request.method} {request.path[:200]}")

    async def _predict(self, request, name, version):
        layout = None

        def parse(loaded, body, encoding):
            nonlocal layout
            body = decompress(body, encoding, self.service.limits.max_body)
            signature, layout, value = parse_request(body)
            infos = loaded.signature(signature).inputs
            request[_LABELS] = name, signature or DEFAULT_SIGNATURE
            return signature or DEFAULT_SIGNATURE, decode_inputs(value, layout, infos)

        async def decode(loaded):
            async with self._bodies.receive(request) as (body, encoding):
                size = len(body) if encoding == "identity" else self.service.limits.max_body
                return await self.service.encode_or_decode(size, parse, loaded, body, encoding)

        _, _, outputs = await self.service.predict(name, version, decode)
        size = sum(array.nbytes for array in outputs.values())
        body = await self.service.encode_or_decode(size, encode_outputs, outputs, layout)
        return web.Response(body=body, content_type="application/json")


def _version(text):
    if text is None:
        return None
    if len(text) > len(str(_MAX_VERSION)) or int(text) > _MAX_VERSION:
        raise RequestError(f"Failed to convert version: {text[:30]} to numeric.")
    return int(text)


def _status(service, name, version):
    return _to_dict(status_response(service, name, version))


def _metadata(service, name, version):
    response = metadata_response(service, name, version)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    # The JSON of an `Any` has `@type`; TensorFlow Serving's answer does not.
    response.metadata["signature_def"].Unpack(signatures)
    return {"model_spec": _to_dict(response.model_spec), "metadata": {"signature_def": _to_dict(signatures)}}


def _to_dict(message):
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
