"""A SavedModel in TensorFlow's C++ session, as TensorFlow Serving runs it, through the C API.

Python's TensorFlow does not check the inputs: shapes and values reach the graph as in the server.
"""

import ctypes
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

_POINTER = ctypes.c_void_p
_STRING_SIZE = 24  # bytes of a TF_TString


class _Buffer(ctypes.Structure):
    _fields_ = [("data", _POINTER), ("length", ctypes.c_size_t), ("deallocator", _POINTER)]


class _Output(ctypes.Structure):
    _fields_ = [("operation", _POINTER), ("index", ctypes.c_int)]


def _library():
    folder = Path(tf.__file__).parent
    ctypes.CDLL(str(folder / "libtensorflow_framework.so.2"), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(folder / "libtensorflow_cc.so.2"), mode=ctypes.RTLD_GLOBAL)


_LIBRARY = _library()


def _function(name, result, *arguments):
    function = getattr(_LIBRARY, name)
    function.restype, function.argtypes = result, arguments
    return function


_int, _size, _text = ctypes.c_int, ctypes.c_size_t, ctypes.c_char_p
_new_status = _function("TF_NewStatus", _POINTER)
_code = _function("TF_GetCode", _int, _POINTER)
_message = _function("TF_Message", _text, _POINTER)
_new_graph = _function("TF_NewGraph", _POINTER)
_new_options = _function("TF_NewSessionOptions", _POINTER)
_new_buffer = _function("TF_NewBuffer", ctypes.POINTER(_Buffer))
_load = _function(
    "TF_LoadSessionFromSavedModel", _POINTER, _POINTER, _POINTER, _text, ctypes.POINTER(_text), _int, _POINTER,
    ctypes.POINTER(_Buffer), _POINTER,
)  # fmt: skip
_operation = _function("TF_GraphOperationByName", _POINTER, _POINTER, _text)
_allocate = _function("TF_AllocateTensor", _POINTER, _int, ctypes.POINTER(ctypes.c_int64), _int, _size)
_data = _function("TF_TensorData", _POINTER, _POINTER)
_bytes = _function("TF_TensorByteSize", _size, _POINTER)
_rank = _function("TF_NumDims", _int, _POINTER)
_dimension = _function("TF_Dim", ctypes.c_int64, _POINTER, _int)
_type = _function("TF_TensorType", _int, _POINTER)
_string_data = _function("TF_StringGetDataPointer", _POINTER, _POINTER)
_string_size = _function("TF_StringGetSize", _size, _POINTER)
_run = _function(
    "TF_SessionRun", None, _POINTER, _POINTER, ctypes.POINTER(_Output), ctypes.POINTER(_POINTER), _int,
    ctypes.POINTER(_Output), ctypes.POINTER(_POINTER), _int, _POINTER, _int, _POINTER, _POINTER,
)  # fmt: skip


class Session:
    """A loaded SavedModel.

    Args:
        folder: Path of a version.

    Attributes:
        signatures: dict, name -> SignatureDef.
    """

    def __init__(self, folder):
        self._graph, buffer, status = _new_graph(), _new_buffer(), _new_status()
        tags = (_text * 1)(b"serve")
        self._session = _load(_new_options(), None, str(folder).encode(), tags, 1, self._graph, buffer, status)
        _raise(status)
        meta_graph = meta_graph_pb2.MetaGraphDef()
        meta_graph.ParseFromString(ctypes.string_at(buffer.contents.data, buffer.contents.length))
        self.signatures = dict(meta_graph.signature_def)

    def run(self, signature, **inputs):
        """Runs a signature.

        Args:
            signature: Name.
            inputs: NumPy arrays of any shape.

        Returns:
            dict of arrays; strings as arrays of bytes objects.

        Raises:
            RuntimeError: With TensorFlow's message.
        """
        definition, status = self.signatures[signature], _new_status()
        fed = [(self._output(definition.inputs[name].name), _tensor(value)) for name, value in inputs.items()]
        names = sorted(definition.outputs)
        fetched = [self._output(definition.outputs[name].name) for name in names]
        results = (_POINTER * len(names))()
        _run(
            self._session, None, (_Output * len(fed))(*[output for output, _ in fed]),
            (_POINTER * len(fed))(*[tensor for _, tensor in fed]), len(fed), (_Output * len(names))(*fetched), results,
            len(names), None, 0, None, status,
        )  # fmt: skip
        _raise(status)
        return {name: _array(result) for name, result in zip(names, results)}

    def _output(self, tensor_name):
        name, _, index = tensor_name.partition(":")
        return _Output(_operation(self._graph, name.encode()), int(index))


def _raise(status):
    if _code(status):
        raise RuntimeError(_message(status).decode())


def _tensor(value):
    value = np.array(value, order="C")
    shape = (ctypes.c_int64 * max(1, value.ndim))(*value.shape)
    tensor = _allocate(tf.as_dtype(value.dtype).as_datatype_enum, shape, value.ndim, value.nbytes)
    ctypes.memmove(_data(tensor), value.ctypes.data, value.nbytes)
    return tensor


def _array(tensor):
    shape, dtype = [_dimension(tensor, i) for i in range(_rank(tensor))], tf.as_dtype(_type(tensor))
    if dtype != tf.string:
        return np.frombuffer(ctypes.string_at(_data(tensor), _bytes(tensor)), dtype.as_numpy_dtype).reshape(shape)
    starts = [_data(tensor) + _STRING_SIZE * i for i in range(int(np.prod(shape)))]
    texts = [ctypes.string_at(_string_data(start), _string_size(start)) for start in starts]
    return np.array(texts, object).reshape(shape)
