"""JSON requests to arrays, and arrays to JSON responses, by the rules of TensorFlow Serving's REST API.

Source: https://www.tensorflow.org/tfx/serving/api_rest, and what its server accepts.
"""

import base64
import binascii
import functools

import numpy as np
import orjson

from sagan_tf.serving.errors import RequestError
from sagan_tf.serving.loaded_version import check_shape

_MAX_VALUES_AT_ONCE = 1 << 14  # of a response, about 1 ms
_MAX_VALUES, _MAX_PARTS = 1 << 18, 1 << 15  # many lists or keys take ten times as long as as many numbers
# TensorFlow Serving refuses what NumPy would convert: 1.0 and true for an integer, "1" for a number.
_JSON_TYPES = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}, "O": {str, dict}}


def parse_request(body):
    """Parses the body of a predict request to (signature name, layout, value); RequestError for another form.

    The layout is the key of the value: "instances", a list of rows, or "inputs", columns.
    """
    _check_counts(body)
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"JSON Parse error: {error}") from None
    if not isinstance(request, dict):
        raise RequestError("The request is not a JSON object.")
    layouts = [layout for layout in ("instances", "inputs") if layout in request]
    if not layouts:
        raise RequestError("Missing 'inputs' or 'instances' key")
    if len(layouts) > 1:
        raise RequestError("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
    signature = request.get("signature_name", "")
    if not isinstance(signature, str):
        raise RequestError("'signature_name' key must be a string value.")
    return signature, layouts[0], request[layouts[0]]


def _check_counts(body):
    """Raises RequestError for so many values that parsing would hold up the other requests: it keeps the GIL."""
    if len(body) <= _MAX_PARTS:
        return
    characters = np.frombuffer(body, np.uint8)
    if np.count_nonzero(characters == ord(",")) > _MAX_VALUES:
        raise RequestError(f"The JSON has more than {_MAX_VALUES} values.")
    if sum(np.count_nonzero(characters == ord(character)) for character in "[{:") > _MAX_PARTS:
        raise RequestError(f"The JSON has more than {_MAX_PARTS} lists, objects and keys.")


def decode_inputs(value, layout, infos):
    """Converts the value of a request to arrays by name; RequestError if an input does not fit its TensorInfo."""
    columns = _columns_of_rows(value, infos) if layout == "instances" else _named_columns(value, infos)
    return {name: decode_array(name, columns[name], info) for name, info in infos.items()}


def _columns_of_rows(rows, infos):
    if not isinstance(rows, list) or not rows:
        raise RequestError("No values in 'instances' array; it must be a list of rows.")
    if not _is_named(rows[0]):
        return {_single_name(infos, "instances"): rows}
    for i, row in enumerate(rows):
        if not _is_named(row) or row.keys() != infos.keys():
            keys = ",".join(infos)
            raise RequestError(
                f"Failed to process element: {i} of 'instances' list. JSON object: keys must be equal to: {keys}"
            )
    return {name: [row[name] for row in rows] for name in infos}


def _named_columns(value, infos):
    if not _is_named(value):
        return {_single_name(infos, "inputs"): value}
    for name in infos:
        if name not in value:
            raise RequestError(f"Missing named input: {name} in 'inputs' object.")
    return value


def _is_named(value):
    return isinstance(value, dict) and value.keys() != {"b64"}


def _single_name(infos, layout):
    if len(infos) != 1:
        raise RequestError(f"{layout} is a plain list, but the inputs {', '.join(infos)} must be named.")
    return next(iter(infos))


def decode_array(name, value, info):
    """Converts nested lists to the array of input `name`; RequestError if they do not fit its TensorInfo."""
    shape = _shape(value)
    check_shape(name, shape, info)
    _check_values(name, value, shape, info.dtype)
    if info.dtype.kind == "O":
        return np.array(_to_bytes(value), object)
    try:
        return _TO_NUMBERS.get(info.dtype.kind, np.array)(value, info.dtype)
    except (OverflowError, FloatingPointError):
        raise RequestError(f"Input {name} has a value that does not fit into {info.dtype.name}.") from None


def _to_floats(value, dtype):
    with np.errstate(over="raise"):
        return np.array(value, np.float64).astype(dtype)


def _to_integers(value, dtype):
    # NumPy 1 wraps what does not fit.
    wide = np.array(value)
    if wide.dtype == object or (wide.astype(dtype) != wide).any():
        raise OverflowError
    return wide.astype(dtype)


_TO_NUMBERS = {"f": _to_floats, "i": _to_integers, "u": _to_integers}


def _shape(value):
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _check_values(name, value, shape, dtype):
    if shape and (type(value) is not list or len(value) != shape[0]):
        raise RequestError(f"Input {name} must be a full array: its lists are of different length or depth.")
    if len(shape) > 1:
        for item in value:
            _check_values(name, item, shape[1:], dtype)
        return
    types = set(map(type, value)) if shape else {type(value)}
    if not types <= _JSON_TYPES.get(dtype.kind, set()):
        expected = "string" if dtype.kind == "O" else dtype.name
        raise RequestError(f"Input {name} has a value that is not of expected type: {expected}")


def _to_bytes(value):
    if isinstance(value, list):
        return [_to_bytes(item) for item in value]
    if isinstance(value, str):
        return value.encode()
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise RequestError("Unable to base64 decode") from None


def encode_outputs(outputs, layout):
    """Encodes output arrays in the layout of the request; RequestError for rows if their numbers differ."""
    if layout == "instances" and len({array.shape[:1] or None for array in outputs.values()} | {None}) != 2:
        raise RequestError("The outputs have no rows in common; ask with 'inputs' instead of 'instances'.")
    values = {name: _encodable(name, array) for name, array in outputs.items()}
    single = next(iter(values.values())) if len(values) == 1 else None
    if layout == "instances":
        rows = _dump_rows(dict(zip(values, row)) for row in zip(*values.values())) if single is None else _dump(single)
        return b'{"predictions":%b}' % rows
    if single is not None:
        return b'{"outputs":%b}' % _dump(single)
    return b'{"outputs":%b}' % _dump(values)


def _dump(value):
    # In parts, since each call keeps the GIL.
    if isinstance(value, dict):
        return b"{%b}" % b",".join([orjson.dumps(name) + b":" + _dump(one) for name, one in value.items()])
    if isinstance(value, list) or (getattr(value, "ndim", 0) > 1 and value.size > _MAX_VALUES_AT_ONCE):
        return _dump_rows(value)
    return _dumps(value)


def _dump_rows(rows):
    return b"[%b]" % b",".join([_dump(row) for row in rows])


_dumps = functools.partial(orjson.dumps, option=orjson.OPT_SERIALIZE_NUMPY)


def _encodable(name, array):
    if array.dtype.kind == "O":
        return _to_strings(array.tolist(), name.endswith("_bytes"))
    if array.dtype.kind not in "iufb" or array.dtype.itemsize < 4 and array.dtype.kind == "f":
        array = array.astype(np.float32)
    return np.ascontiguousarray(array) if array.ndim else array.item()


def _to_strings(value, binary):
    if isinstance(value, list):
        return [_to_strings(item, binary) for item in value]
    if binary:  # decided by the name of the output, as in TensorFlow Serving
        return {"b64": base64.b64encode(value).decode("ascii")}
    return value.decode("utf-8", "replace")
