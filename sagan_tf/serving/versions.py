"""A version in memory, run as TensorFlow Serving runs it: a session, and the tensors that its SignatureDefs name."""

import functools
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from sagan_tf.serving.problems import RequestProblem, UnknownSignature

DEFAULT_SIGNATURE = "serving_default"
# TensorFlow Serving asks for no more.
_LARGEST_RECORD_COUNT = 1000
_WARM_UP = os.path.join("assets.extra", "tf_serving_warmup_requests")
# A graph is a program. Nothing that is served here has a use for files, or for functions of a Python process.
_REACHING_OUT = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile", "MatchingFiles"}
_BAD_INPUT = (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError, tf.errors.UnimplementedError, ValueError)


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a signature.

    Args:
        dtype: NumPy type; object for strings.
        shape: tuple of sizes, None where free; None if even the rank is.
        tensor: Name of the tensor in the graph.
    """

    dtype: np.dtype
    shape: tuple | None
    tensor: str

    @functools.cached_property
    def has_batch_axis(self):
        """Whether the first axis is there and of any size."""
        return bool(self.shape) and self.shape[0] is None


@dataclass(frozen=True)
class Signature:
    """A function of a loaded version.

    Args:
        inputs: dict, name -> TensorInfo.
        outputs: dict, name -> TensorInfo.
        call: Function of input arrays in the order of `inputs` that gives output arrays in the order of `outputs`.
    """

    inputs: dict
    outputs: dict
    call: Callable

    @property
    def joins(self):
        """Whether requests can be run together: everything has a batch axis."""
        return bool(self.inputs) and all(
            info.has_batch_axis for info in itertools.chain(self.inputs.values(), self.outputs.values())
        )

    def run(self, inputs):
        """Runs the function.

        Args:
            inputs: dict, name -> array.

        Returns:
            dict, name -> array.

        Raises:
            RequestProblem: The model refuses the inputs.
        """
        try:
            outputs = self.call(*(inputs[name] for name in self.inputs))
        except _BAD_INPUT as error:
            raise RequestProblem(_first_line(error)) from None
        return dict(zip(self.outputs, outputs))


class LoadedVersion:
    """A SavedModel in memory, warmed up by the requests that lie with it.

    Args:
        folder: Of the version; its name is the number.

    Attributes:
        number: int, the version.
        signatures: dict, name -> Signature.
        definitions: dict, name -> SignatureDef.
        warm_up_count: Requests replayed.

    Raises:
        Exception: Whatever TensorFlow says to a folder that it cannot load.
    """

    def __init__(self, folder):
        self.number = int(os.path.basename(folder))
        _refuse_reaching_out(os.path.join(folder, "saved_model.pb"))
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], str(folder))
        self.definitions = {
            name: definition
            for name, definition in sorted(meta_graph.signature_def.items())
            if definition.method_name == "tensorflow/serving/predict"
        }
        self.signatures = {name: self._signature(definition) for name, definition in self.definitions.items()}
        self.warm_up_count = self._warm_up(os.path.join(folder, _WARM_UP))

    def _signature(self, definition):
        inputs, outputs = (
            {name: _tensor_info(info) for name, info in sorted(infos.items())}
            for infos in (definition.inputs, definition.outputs)
        )
        call = self._session.make_callable(
            [info.tensor for info in outputs.values()], feed_list=[info.tensor for info in inputs.values()]
        )
        return Signature(inputs, outputs, call)

    def signature(self, name):
        """Finds a signature.

        Args:
            name: str; empty for the default one.

        Returns:
            Signature.

        Raises:
            UnknownSignature: There is none of that name.
        """
        try:
            return self.signatures[name or DEFAULT_SIGNATURE]
        except KeyError:
            raise UnknownSignature(name, self.signatures) from None

    def close(self):
        """Gives the memory back. Nothing may run any more."""
        self._session.close()

    def _warm_up(self, path):
        if not os.path.exists(path):
            return 0
        records = list(tf.data.TFRecordDataset(path).take(_LARGEST_RECORD_COUNT).as_numpy_iterator())
        for record in records:
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            arrays = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            self.signature(request.model_spec.signature_name).run(arrays)
        return len(records)


def _refuse_reaching_out(path):
    with open(path, "rb") as file:
        model = saved_model_pb2.SavedModel.FromString(file.read())
    for graph in (meta_graph.graph_def for meta_graph in model.meta_graphs):
        nodes = itertools.chain(graph.node, *(function.node_def for function in graph.library.function))
        found = sorted({node.op for node in nodes} & _REACHING_OUT)
        if found:
            raise ValueError(f"its graph has {', '.join(found)}: a model that reaches outside itself is not served.")


def count_rows(arrays, infos):
    """The size of the batch that arrays of the declared shapes make up.

    Args:
        arrays: dict, name -> array.
        infos: dict, name -> TensorInfo, of the inputs.

    Returns:
        int; 1 where there is no batch axis.

    Raises:
        RequestProblem: They disagree.
    """
    sizes = {arrays[name].shape[0] for name, info in infos.items() if info.has_batch_axis}
    if len(sizes) > 1:
        raise RequestProblem(f"All inputs must have the same number of rows; {sorted(sizes)} were given.")
    return max(sizes, default=1)


def check_shape(name, shape, info):
    """Refuses a shape that is not the declared one.

    Args:
        name: Of the input, for the message.
        shape: tuple of ints.
        info: TensorInfo.

    Raises:
        RequestProblem: It is another.
    """
    if info.shape is None:
        return
    # Nearly always only the batch is free, and a comparison of the rest is the quickest look.
    fits = len(shape) == len(info.shape) and (
        shape[1:] == info.shape[1:] and info.has_batch_axis
        or all(want in (None, size) for size, want in zip(shape, info.shape))
    )
    if not fits or 0 in shape:
        words = ", ".join("any" if size is None else str(size) for size in info.shape)
        raise RequestProblem(f"Input {name} must have the shape [{words}], none of them 0; {list(shape)} was given.")


def _tensor_info(info):
    dtype, shape = tf.dtypes.as_dtype(info.dtype).as_numpy_dtype, info.tensor_shape
    sizes = None if shape.unknown_rank else tuple(None if dim.size < 0 else dim.size for dim in shape.dim)
    return TensorInfo(np.dtype(dtype), sizes, info.name)


def _first_line(error):
    message = getattr(error, "message", None) or str(error)
    return " ".join(message.split("\n\t")[0].split())[:500]
