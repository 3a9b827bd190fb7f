"""Reads state dicts from files, and writes them."""

import os
import pickle
import zipfile

import numpy as np

from sagan_tf.errors import UserError, summarize
from sagan_tf.files.hub import is_hub_name
from sagan_tf.files.untrusted import check_archive, check_claim, read_arrays

_MAX_NESTING = 8
_NESTING_KEYS = ("state_dict", "generator", "discriminator", "model")  # Under which checkpoints keep the state dict.


class _Ignored:
    """Stands for an object of NumPy in a checkpoint: takes its content and decodes nothing."""

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        pass


# NumPy's scalars and arrays, which training loops save beside the weights. PyTorch compares names only.
_STAND_INS = [
    type(name, (_Ignored,), {"__module__": module})
    for module, names in {
        "numpy": ("dtype", "ndarray"),
        "numpy.core.multiarray": ("scalar", "_reconstruct"),  # NumPy 1
        "numpy._core.multiarray": ("scalar", "_reconstruct"),
    }.items()
    for name in names
]


def read_state_dict(path):
    """Reads the tensors of a checkpoint without running code in it.

    Args:
        path: `.npz` file of named arrays, `.safetensors` file, or a checkpoint of torch.save (needs PyTorch).

    Returns:
        dict, name -> NumPy array, those of floats in float32.

    Raises:
        UserError: It is a run, does not exist, cannot be read, unpacks to far more than its size, or needs PyTorch,
            which is not installed.
    """
    if os.path.isdir(path) or is_hub_name(path):
        raise UserError(f"{path}: must be a file, a checkpoint of PyTorch; a run is converted with --to.")
    if not os.path.isfile(path):
        raise UserError(f"{path}: does not exist.")
    try:
        check_archive(path)
        if str(path).endswith(".npz"):
            arrays = read_arrays(path)
            return {
                name: value.astype("float32") if value.dtype.kind == "f" else value for name, value in arrays.items()
            }
        return _read_torch(path)
    except UserError:
        raise
    except Exception as error:  # Damaged bytes make zip, zlib, pickle and NumPy raise anything.
        raise UserError(f"{path}: cannot be read as a checkpoint: {summarize(error)}") from None


def write_state_dict(path, state):
    """Writes the file that torch.save would write, without PyTorch; torch.load(weights_only=True) reads it.

    It is a ZIP archive of raw numbers, and a pickle that says how PyTorch makes tensors of them. Source: the format of
    torch.save since PyTorch 1.6, torch/serialization.py.

    Args:
        path: File to write.
        state: dict, name -> array; all become float32.
    """
    arrays = {name: np.ascontiguousarray(value, "<f4").reshape(np.shape(value)) for name, value in state.items()}
    tensors = (_opcodes(name) + _tensor_opcodes(str(i), value) for i, (name, value) in enumerate(arrays.items()))
    opcodes = [pickle.PROTO, b"\x02", pickle.EMPTY_DICT, pickle.MARK, *tensors, pickle.SETITEMS, pickle.STOP]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"".join(opcodes))
        archive.writestr("archive/byteorder", "little")
        for i, value in enumerate(arrays.values()):
            archive.writestr(f"archive/data/{i}", value.tobytes())
        archive.writestr("archive/version", "3\n")


def _tensor_opcodes(key, value):
    """Pickle of the call that makes a tensor of the numbers in `archive/data/<key>`."""
    storage = [
        *(pickle.MARK, _opcodes("storage"), _global("torch", "FloatStorage")),
        *(_opcodes(key), _opcodes("cpu"), _opcodes(value.size), pickle.TUPLE, pickle.BINPERSID),
    ]
    strides = tuple(stride // value.itemsize for stride in value.strides)
    no_hooks = [_global("collections", "OrderedDict"), pickle.EMPTY_TUPLE, pickle.REDUCE]
    # Storage, offset, shape, strides, requires_grad, hooks.
    arguments = [*storage, _opcodes(0), _opcodes(value.shape), _opcodes(strides), pickle.NEWFALSE, *no_hooks]
    call = [_global("torch._utils", "_rebuild_tensor_v2"), pickle.MARK, *arguments, pickle.TUPLE, pickle.REDUCE]
    return b"".join(call)


def _opcodes(value):
    """Pickle of a str, an int or a tuple of ints, without its start and its end."""
    return pickle.dumps(value, 2)[2:-1]


def _global(module, name):
    """Pickle of a function or class, which need not be importable here."""
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _read_torch(path):
    is_safetensors = str(path).endswith(".safetensors")
    try:
        import torch  # pyright: ignore[reportMissingImports]

        if is_safetensors:
            from safetensors.torch import load_file  # pyright: ignore[reportMissingImports]
    except ImportError:
        needed = "PyTorch and safetensors. Install them" if is_safetensors else "PyTorch. Install its CPU build"
        raise UserError(
            f"{path}: reading this file needs {needed}, or save the state dict elsewhere with numpy.savez(NAME, "
            "**{key: value.numpy() for key, value in state_dict.items()})."
        ) from None
    if is_safetensors:
        state = load_file(path)
    else:
        # Other pickles may run any code.
        with torch.serialization.safe_globals(_STAND_INS):
            state = torch.load(path, map_location="cpu", weights_only=True)
    for _ in range(_MAX_NESTING):  # a damaged file may hold itself
        if not isinstance(state, dict):
            break
        state = next((state[key] for key in _NESTING_KEYS if isinstance(state.get(key), dict)), state)
    if not isinstance(state, dict):
        raise UserError(f"{path}: contains {type(state).__name__} instead of a state dict.")
    named = ((name, value) for name, value in state.items() if isinstance(name, str))
    tensors = {name: value for name, value in named if isinstance(value, torch.Tensor)}
    # A tensor may repeat one number as often as it likes.
    check_claim(path, sum(4 * value.numel() for value in tensors.values()))
    return {name: value.float().numpy() for name, value in tensors.items()}
