"""TensorFlow Serving's gRPC API: PredictionService and ModelService."""

import asyncio
import functools
import logging
import math
from typing import NamedTuple

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from sagan_tf.serving.errors import CLIENT_CLOSED, RequestError, UnknownSignatureError
from sagan_tf.serving.loaded_version import DEFAULT_SIGNATURE, check_shape
from sagan_tf.serving.responses import metadata_response, status_response
from sagan_tf.serving.wire_check import check_predict_request

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
_RECEIVED_TOGETHER, _CROWDED_SECONDS = 8, 1.0
_MAX_DESCRIBE_BYTES = 1 << 15
_MAX_DETAILS = 600  # characters, each up to 12 bytes of metadata, of which more than 8 KiB break the call
_FIELDS = {"float32": "float_val", "float64": "double_val", "int32": "int_val", "int64": "int64_val"}


def make_server(service):
    """Returns a grpc.aio.Server that answers requests from a `Service`; the caller adds a port and starts it."""
    limits = service.limits
    milliseconds = max(int(1e3 * limits.client_timeout), 1)
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", limits.max_body),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # otherwise a second server on the same port gets half of the requests
            ("grpc.max_allowed_incoming_connections", limits.max_connections),
            ("grpc.server_handshake_timeout_ms", milliseconds),
            ("grpc.max_connection_idle_ms", milliseconds),  # clients connect again when they have a request
            ("grpc.http2.bdp_probe", 0),  # buffer little of a message before it is received
            ("grpc.http2.lookahead_bytes", 1 << 16),
            ("grpc.keepalive_time_ms", milliseconds),
            ("grpc.keepalive_timeout_ms", milliseconds),
        ],
        maximum_concurrent_rpcs=2 * limits.max_connections,
    )
    receiver = _MessageReceiver(limits.client_timeout)
    methods = {
        "PredictionService": {
            "Predict": (_predict, predict_pb2.PredictRequest),
            "GetModelMetadata": (_get_model_metadata, get_model_metadata_pb2.GetModelMetadataRequest),
        },
        "ModelService": {"GetModelStatus": (_get_model_status, get_model_status_pb2.GetModelStatusRequest)},
    }
    for name, handlers in methods.items():
        handlers = {method: _handler(service, receiver, *handler) for method, handler in handlers.items()}
        service_handler = grpc.method_handlers_generic_handler(f"tensorflow.serving.{name}", handlers)
        server.add_generic_rpc_handlers((service_handler,))
    return server


def _handler(service, receiver, method, message_type):
    """Returns the RpcMethodHandler of a method.

    It receives bytes, and as a stream of one message, which looks the same to a client: so the server can end slow
    requests and answer malformed ones.
    """

    async def handle(messages, context):
        labels, status = ["unknown", "unknown"], 500
        try:
            content = await receiver.receive(messages)
            request = await service.encode_or_decode(len(content), _parse, message_type, content)
            response = await method(service, request, len(content), labels)
            status = 200
            return response.SerializeToString()
        except asyncio.CancelledError:
            status = CLIENT_CLOSED
            raise
        except RequestError as error:
            status, message = error.status, str(error)
            unknown = isinstance(error, UnknownSignatureError)
            code = grpc.StatusCode.FAILED_PRECONDITION if unknown else _CODES[status]
        except Exception:
            logging.exception(method.__name__)
            code, message = grpc.StatusCode.INTERNAL, "Internal error; the server's log has the reason"
        finally:
            service.metrics.count(*labels, "grpc", status).inc()
        await context.abort(code, message[:_MAX_DETAILS])

    return grpc.stream_unary_rpc_method_handler(handle)


class _MessageReceiver:
    """Receives few messages at a time, since each may take `limits.max_body`.

    Args:
        seconds: Time for a message, `_CROWDED_SECONDS` while others wait.
    """

    def __init__(self, seconds):
        self._seconds, self._crowded_seconds = seconds, min(seconds, _CROWDED_SECONDS)
        self._slots, self._waiting, self._running = asyncio.Semaphore(_RECEIVED_TOGETHER), 0, {}

    async def receive(self, messages):
        """Returns the bytes of the first message of an iterator; RequestError if it is missing or slow."""
        if self._slots.locked():
            for timeout, start in self._running.items():
                if not timeout.expired():
                    timeout.reschedule(start + self._crowded_seconds)
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        start = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._crowded_seconds if self._waiting else self._seconds) as timeout:
                self._running[timeout] = start
                async for content in messages:
                    return content
        except TimeoutError:
            raise RequestError("The request did not arrive in time.", 408) from None
        finally:
            self._running.pop(timeout, None)
            self._slots.release()
        raise RequestError("The request has no message.")


def _parse(message_type, content):
    if message_type is predict_pb2.PredictRequest:
        check_predict_request(content)
    elif len(content) > _MAX_DESCRIBE_BYTES:
        raise RequestError(f"The request is larger than {_MAX_DESCRIBE_BYTES} bytes.", 413)
    try:
        return message_type.FromString(content)
    except DecodeError:
        raise RequestError(f"The request is not a {message_type.DESCRIPTOR.name}.") from None


async def _predict(service, request, size, labels):
    spec, limits = request.model_spec, service.limits

    async def decode(loaded):
        infos = loaded.signature(spec.signature_name).inputs
        labels[:] = spec.name, spec.signature_name or DEFAULT_SIGNATURE
        inputs = await service.encode_or_decode(size, _decode_inputs, request, infos, limits.max_body)
        return labels[1], inputs

    version, signature_name, outputs = await service.predict(spec.name, _version(spec), decode)
    response = predict_pb2.PredictResponse()
    response.model_spec.name = spec.name
    response.model_spec.version.value = version
    response.model_spec.signature_name = signature_name
    for name, array in _filtered(outputs, request.output_filter).items():
        _encode(response.outputs[name], array)
    return response


async def _get_model_metadata(service, request, size, labels):
    if len(request.metadata_field) != 1 or request.metadata_field[0] != "signature_def":
        raise RequestError("The metadata_field must be signature_def, alone")
    return metadata_response(service, request.model_spec.name, _version(request.model_spec))


async def _get_model_status(service, request, size, labels):
    return status_response(service, request.model_spec.name, _version(request.model_spec))


def _version(spec):
    if spec.version_label:
        raise RequestError(f"Unrecognized servable version label: {spec.version_label}")
    return spec.version.value if spec.HasField("version") else None


def _decode_inputs(request, infos, max_bytes):
    names, required = set(request.inputs), set(infos)
    if names != required:
        raise RequestError(
            f"input size does not match signature: {len(names)}!={len(required)}. Sent extra: "
            f"{{{','.join(sorted(names - required))}}}. Missing but required: {{{','.join(sorted(required - names))}}}."
        )
    return {name: _decode(name, tensor, infos[name], max_bytes) for name, tensor in request.inputs.items()}


def _decode(name, tensor, info, max_bytes):
    wire_type = _wire_type(info.dtype)
    if tensor.dtype != wire_type.number:
        raise RequestError(f"Input {name} must be of type {wire_type.name}; another was given.")
    shape = tuple([dim.size for dim in tensor.tensor_shape.dim])
    check_shape(name, shape, info)
    # A TensorProto may hold one value for all elements: a few bytes could ask for any amount of memory.
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * wire_type.size > max_bytes:
        raise RequestError(f"Input {name} cannot have the shape {list(shape)}.")
    if wire_type.field:  # as `tf.make_ndarray`, in a quarter of its 40 us, for tensors that hold all elements
        if len(tensor.tensor_content) == count * wire_type.size > 0:
            return np.frombuffer(tensor.tensor_content, info.dtype).reshape(shape)
        values = getattr(tensor, wire_type.field)
        if len(values) == count and not tensor.tensor_content:
            return np.fromiter(values, info.dtype, count).reshape(shape)
    try:
        return tf.make_ndarray(tensor)
    except (TypeError, ValueError, IndexError) as error:
        raise RequestError(f"Input {name} is not a tensor: {error}") from None


class _WireType(NamedTuple):
    """A type in a TensorProto: number, name, bytes per element, and the field of its values (None for strings)."""

    number: int
    name: str
    size: int
    field: str | None


@functools.cache
def _wire_type(dtype):
    tf_type = tf.as_dtype(tf.string if dtype.kind == "O" else dtype)
    return _WireType(tf_type.as_datatype_enum, tf_type.name, tf_type.size, _FIELDS.get(tf_type.name))


def _encode(tensor, array):
    # `tf.make_tensor_proto` checks the type of every element: 0.1 ms for a request that otherwise takes 0.3 ms.
    tensor.dtype = _wire_type(array.dtype).number
    tensor.tensor_shape.SetInParent()  # a scalar has a shape too
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    if array.dtype.kind == "O":
        tensor.string_val.extend(array.reshape(-1).tolist())
    else:
        tensor.tensor_content = array.tobytes()


def _filtered(outputs, names):
    unknown = [name for name in names if name not in outputs]
    if unknown:
        raise RequestError(f"output tensor alias not found in signature: {unknown[0]}")
    return {name: outputs[name] for name in names} if names else outputs
