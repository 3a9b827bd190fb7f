"""TensorFlow Serving's REST API: predict, status and metadata of `/v1/models/NAME[/versions/N]`; health and metrics.

Source: https://www.tensorflow.org/tfx/serving/api_rest.
"""

import logging
import re

import orjson
from aiohttp import web
from google.protobuf import json_format
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from tensorflow_serving.apis import get_model_metadata_pb2

from sagan_tf.serving.errors import RequestError
from sagan_tf.serving.json_codec import decode_inputs, encode_outputs, parse_request
from sagan_tf.serving.responses import metadata_response, status_response

_PREDICT = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?:predict")
_DESCRIBE = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(/metadata)?")
_MAX_VERSION = 2**63 - 1


def make_app(service):
    """Returns an aiohttp.web.Application that answers requests from a `Service`."""
    app = web.Application(client_max_size=service.limits.max_body, middlewares=[_errors_as_json])
    handlers = _Handlers(service)
    app.router.add_get("/healthz", handlers.health)
    for path in ("/metrics", "/monitoring/prometheus/metrics"):
        app.router.add_get(path, handlers.metrics)
    app.router.add_route("*", "/v1/{rest:.*}", handlers.model)
    return app


@web.middleware
async def _errors_as_json(request, handler):
    try:
        return await handler(request)
    except RequestError as error:
        return _error(str(error), error.status)
    except web.HTTPException as error:
        return _error(error.text or error.reason, error.status)
    except Exception:
        logging.exception("%s %s", request.method, request.path)
        return _error("Internal error; the server's log has the reason", 500)


def _error(message, status):
    return web.Response(body=orjson.dumps({"error": message}), status=status, content_type="application/json")


class _Handlers:
    def __init__(self, service):
        self.service = service

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
        raise RequestError(f"Malformed request: {request.method} {request.path}")

    async def _predict(self, request, name, version):
        signature, layout, value = parse_request(await request.read())
        _, outputs = await self.service.predict(
            name, version, signature, lambda infos: decode_inputs(value, layout, infos), "rest"
        )
        return web.Response(body=encode_outputs(outputs, layout), content_type="application/json")


def _version(text):
    if text is None:
        return None
    if int(text) > _MAX_VERSION:
        raise RequestError(f"Failed to convert version: {text} to numeric.")
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
