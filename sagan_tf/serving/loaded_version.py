"""A SavedModel in memory, run as TensorFlow Serving runs it: a session and the tensors named by its SignatureDefs."""

import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from sagan_tf.errors import UserError
from sagan_tf.files.saved_models import EXPORT_OPERATIONS, checked_graph, regular_files
from sagan_tf.files.untrusted import check_records
from sagan_tf.serving.errors import RequestError, UnknownSignatureError

DEFAULT_SIGNATURE = "serving_default"
_MAX_WARM_UP_REQUESTS = 1000  # as in TensorFlow Serving
_MAX_WARM_UP_VALUES = 1 << 24  # per tensor, which may hold one value for all elements
_WARM_UP_PATH = os.path.join("assets.extra", "tf_serving_warmup_requests")
_INITIALIZER = "__saved_model_init_op"
_VARIABLES = ("VarHandleOp", "Variable", "VariableV2")
_BAD_INPUT = (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError, tf.errors.UnimplementedError, ValueError)


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a signature.

    Args:
        dtype: NumPy type; object for strings.
        shape: tuple of sizes, None for an unknown size; None if the rank is unknown.
        tensor: Name of the tensor in the graph.
    """

    dtype: np.dtype
    shape: tuple | None
    tensor: str

    @functools.cached_property
    def has_batch_axis(self):
        """Whether the first axis exists and may have any size."""
        return bool(self.shape) and self.shape[0] is None

    @property
    def has_row_size(self):
        """Whether the size of a row is known."""
        return self.has_batch_axis and None not in self.shape[1:] and self.dtype != np.dtype(object)


@dataclass(frozen=True)
class Signature:
    """A function of a loaded version.

    Args:
        inputs: dict, name -> TensorInfo.
        outputs: dict, name -> TensorInfo.
        call: Function from input arrays in the order of `inputs` to output arrays in the order of `outputs`.
    """

    inputs: dict
    outputs: dict
    call: Callable

    @property
    def can_batch(self):
        """Whether requests can run as one batch: along a first axis, and inputs have no other axis of any size."""
        infos = [*self.inputs.values(), *self.outputs.values()]
        has_fixed_rows = all(info.shape and None not in info.shape[1:] for info in self.inputs.values())
        return bool(self.inputs) and has_fixed_rows and all(info.has_batch_axis for info in infos)

    @property
    def bytes_per_row(self):
        """Bytes that a row takes in the outputs of known size, at least 1."""
        sizes = [math.prod(info.shape[1:]) * info.dtype.itemsize for info in self.outputs.values() if info.has_row_size]
        return max(sum(sizes), 1)

    def run(self, inputs):
        """Maps a dict of input arrays to a dict of output arrays; RequestError if the model refuses them."""
        try:
            outputs = self.call(*(inputs[name] for name in self.inputs))
        except _BAD_INPUT as error:
            raise RequestError(_first_line(error)) from None
        return dict(zip(self.outputs, outputs))


class LoadedVersion:
    """A SavedModel in memory, warmed up with the requests stored in it.

    Args:
        folder: Path of the version; its name is the version number.
        allow_any_graph: bool. Load graphs with operations that may access files, too.

    Attributes:
        number: int, the version.
        signatures: dict, name -> Signature.
        definitions: dict, name -> SignatureDef.
        warm_up_count: int, number of warm-up requests.

    Raises:
        Exception: Of any type, if TensorFlow cannot load the folder.
    """

    def __init__(self, folder, allow_any_graph=False):
        self.number = int(os.path.basename(folder))
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            meta_graph = (_load_any if allow_any_graph else _load_checked)(self._session, folder)
        self.definitions = {
            name: definition
            for name, definition in sorted(meta_graph.signature_def.items())
            if definition.method_name == "tensorflow/serving/predict"
        }
        self.signatures = {name: self._make_signature(definition) for name, definition in self.definitions.items()}
        self.warm_up_count = self._warm_up(os.path.join(folder, _WARM_UP_PATH))

    def _make_signature(self, definition):
        inputs, outputs = (
            {name: _tensor_info(info) for name, info in sorted(infos.items())}
            for infos in (definition.inputs, definition.outputs)
        )
        call = self._session.make_callable(
            [info.tensor for info in outputs.values()], feed_list=[info.tensor for info in inputs.values()]
        )
        return Signature(inputs, outputs, call)

    def signature(self, name):
        """Returns the Signature of a name, the default one for an empty name; UnknownSignatureError if missing."""
        try:
            return self.signatures[name or DEFAULT_SIGNATURE]
        except KeyError:
            raise UnknownSignatureError(name, self.signatures) from None

    def close(self):
        """Frees the memory. Nothing may run any more."""
        self._session.close()

    def _warm_up(self, path):
        if not os.path.exists(path):
            return 0
        check_records(path, _MAX_WARM_UP_REQUESTS)
        records = list(tf.data.TFRecordDataset(path).take(_MAX_WARM_UP_REQUESTS).as_numpy_iterator())
        for record in records:
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            arrays = {name: _warm_up_array(name, tensor) for name, tensor in request.inputs.items()}
            self.signature(request.model_spec.signature_name).run(arrays)
        return len(records)


def _warm_up_array(name, tensor):
    if math.prod(dim.size for dim in tensor.tensor_shape.dim) > _MAX_WARM_UP_VALUES:
        raise ValueError(f"a warm-up request has more than {_MAX_WARM_UP_VALUES} values in input {name}.")
    return tf.make_ndarray(tensor)


def _load_any(session, folder):
    regular_files(folder)
    return tf.compat.v1.saved_model.load(session, ["serve"], folder)


def _load_checked(session, folder):
    meta_graph = checked_graph(folder, EXPORT_OPERATIONS)
    saver = tf.compat.v1.train.import_meta_graph(meta_graph)
    if _has_saved_variables(meta_graph, folder):
        saver.restore(session, os.path.join(folder, "variables", "variables"))
    for info in meta_graph.signature_def[_INITIALIZER].outputs.values():
        session.run(info.name)
    return meta_graph


def _has_saved_variables(meta_graph, folder):
    """Whether a graph has variables; UserError if their files are missing."""
    if all(node.op not in _VARIABLES for node in meta_graph.graph_def.node):
        return False
    if not os.path.exists(os.path.join(folder, "variables", "variables.index")):
        raise UserError("the files of its variables are missing.")
    return True


def count_rows(arrays, infos):
    """Returns the batch size of input arrays, 1 without a batch axis; RequestError if they differ."""
    sizes = {arrays[name].shape[0] for name, info in infos.items() if info.has_batch_axis}
    if len(sizes) > 1:
        raise RequestError(f"All inputs must have the same number of rows; {sorted(sizes)} were given.")
    return max(sizes, default=1)


def check_shape(name, shape, info):
    """Raises RequestError if the shape of input `name` does not fit its TensorInfo."""
    if info.shape is None:
        return
    # Usually only the batch size is free; then comparing the rest is fastest.
    fits = len(shape) == len(info.shape) and (
        shape[1:] == info.shape[1:]
        and info.has_batch_axis
        or all(required in (None, size) for size, required in zip(shape, info.shape))
    )
    if not fits or 0 in shape:
        sizes = ", ".join("any" if size is None else str(size) for size in info.shape)
        raise RequestError(f"Input {name} must have the shape [{sizes}], none of them 0; {list(shape)} was given.")


def _tensor_info(info):
    dtype, shape = tf.dtypes.as_dtype(info.dtype).as_numpy_dtype, info.tensor_shape
    sizes = None if shape.unknown_rank else tuple(None if dim.size < 0 else dim.size for dim in shape.dim)
    return TensorInfo(np.dtype(dtype), sizes, info.name)


def _first_line(error):
    message = getattr(error, "message", None) or str(error)
    return " ".join(message.split("\n\t")[0].split())[:500]
