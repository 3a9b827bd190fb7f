"""Requests in JSON to arrays and back, by the rules of TensorFlow Serving's REST API.

Source: https://www.tensorflow.org/tfx/serving/api_rest, and what its server accepts.
"""

import base64
import binascii

import numpy as np
import orjson

from sagan_tf.serving.problems import RequestProblem
from sagan_tf.serving.versions import check_shape

# What NumPy would convert, TensorFlow Serving refuses: 1.0 and true for an integer, "1" for a number.
_JSON_TYPES = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}, "O": {str, dict}}


def parse_request(body):
    """Reads the body of a predict request.

    Args:
        body: bytes.

    Returns:
        (signature name, "instances" or "inputs", what stands behind it).

    Raises:
        RequestProblem: It is not JSON of that form.
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestProblem(f"JSON Parse error: {error}") from None
    if not isinstance(request, dict):
        raise RequestProblem("The request is no JSON object.")
    forms = [form for form in ("instances", "inputs") if form in request]
    if not forms:
        raise RequestProblem("Missing 'inputs' or 'instances' key")
    if len(forms) > 1:
        raise RequestProblem("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
    signature = request.get("signature_name", "")
    if not isinstance(signature, str):
        raise RequestProblem("'signature_name' key must be a string value.")
    return signature, forms[0], request[forms[0]]


def to_arrays(given, form, infos):
    """Makes the input arrays of a signature.

    Args:
        given: What stands behind `form`.
        form: "instances", a list of rows, or "inputs", whole arrays.
        infos: dict, name -> TensorInfo, of the inputs.

    Returns:
        dict, name -> array.

    Raises:
        RequestProblem: An input is missing, ragged, or of another type or rank.
    """
    columns = _from_rows(given, infos) if form == "instances" else _from_columns(given, infos)
    return {name: to_array(name, columns[name], info) for name, info in infos.items()}


def _from_rows(rows, infos):
    if not isinstance(rows, list) or not rows:
        raise RequestProblem("No values in 'instances' array; it must be a list of rows.")
    if not _names_inputs(rows[0]):
        return {_only_one(infos, "instances"): rows}
    for i, row in enumerate(rows):
        if not _names_inputs(row) or row.keys() != infos.keys():
            keys = ",".join(infos)
            raise RequestProblem(
                f"Failed to process element: {i} of 'instances' list. JSON object: keys must be equal to: {keys}"
            )
    return {name: [row[name] for row in rows] for name in infos}


def _from_columns(value, infos):
    if not _names_inputs(value):
        return {_only_one(infos, "inputs"): value}
    for name in infos:
        if name not in value:
            raise RequestProblem(f"Missing named input: {name} in 'inputs' object.")
    return value


def _names_inputs(value):
    return isinstance(value, dict) and value.keys() != {"b64"}


def _only_one(infos, form):
    if len(infos) != 1:
        raise RequestProblem(f"{form} is a plain list, but the inputs {', '.join(infos)} must be named.")
    return next(iter(infos))


def to_array(name, value, info):
    """Makes one input array.

    Args:
        name: Of the input, for messages.
        value: JSON value, nested lists.
        info: TensorInfo.

    Returns:
        NumPy array of the declared type and rank.

    Raises:
        RequestProblem: It is ragged, or of another type or shape.
    """
    shape = _shape_of(value)
    check_shape(name, shape, info)
    _check_values(name, value, shape, info.dtype)
    if info.dtype.kind == "O":
        return np.array(_to_bytes(value), object)
    try:
        return _to_floats(value, info.dtype) if info.dtype.kind == "f" else np.array(value, info.dtype)
    except OverflowError:
        raise RequestProblem(f"Input {name} has a value that does not fit into {info.dtype.name}.") from None


def _to_floats(value, dtype):
    with np.errstate(over="raise"):
        try:
            return np.array(value, np.float64).astype(dtype)
        except FloatingPointError:
            raise OverflowError from None


def _shape_of(value):
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _check_values(name, value, shape, dtype):
    allowed = _JSON_TYPES.get(dtype.kind, set())
    if not shape:
        types = {type(value)}
    elif type(value) is not list or len(value) != shape[0]:
        raise RequestProblem(f"Input {name} must be a full array: its lists are of different length or depth.")
    elif len(shape) > 1:
        for item in value:
            _check_values(name, item, shape[1:], dtype)
        return
    else:
        types = set(map(type, value))
    if not types <= allowed:
        wanted = "string" if dtype.kind == "O" else dtype.name
        raise RequestProblem(f"Input {name} has a value that is not of expected type: {wanted}")


def _to_bytes(value):
    if isinstance(value, list):
        return [_to_bytes(item) for item in value]
    if isinstance(value, str):
        return value.encode()
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise RequestProblem("Unable to base64 decode") from None


def to_json(outputs, form):
    """Writes the answer of a predict request.

    Args:
        outputs: dict, name -> array.
        form: "instances" or "inputs", as in the request.

    Returns:
        bytes.

    Raises:
        RequestProblem: Rows are asked for, and the outputs have none, or not the same number.
    """
    if form == "instances" and len({array.shape[:1] or None for array in outputs.values()} | {None}) != 2:
        raise RequestProblem("The outputs have no rows in common; ask with 'inputs' instead of 'instances'.")
    ready = {name: _encodable(name, array) for name, array in outputs.items()}
    values = next(iter(ready.values()))
    if form == "inputs":
        answer = {"outputs": ready if len(ready) > 1 else values}
    else:
        rows = values if len(ready) == 1 else [dict(zip(ready, row)) for row in zip(*ready.values())]
        answer = {"predictions": rows}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _encodable(name, array):
    if array.dtype.kind == "O":
        return _to_texts(array.tolist(), name.endswith("_bytes"))
    if array.dtype.kind not in "iufb" or array.dtype.itemsize < 4 and array.dtype.kind == "f":
        array = array.astype(np.float32)
    return np.ascontiguousarray(array) if array.ndim else array.item()


def _to_texts(value, binary):
    if isinstance(value, list):
        return [_to_texts(item, binary) for item in value]
    if binary:  # by the name of the output, as in TensorFlow Serving
        return {"b64": base64.b64encode(value).decode("ascii")}
    return value.decode("utf-8", "replace")
