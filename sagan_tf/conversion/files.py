"""Reads state dicts from files."""

import os

from sagan_tf.errors import UserError, summarize
from sagan_tf.files.untrusted import check_archive, check_claim, read_arrays

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
        dict, name -> NumPy array.

    Raises:
        UserError: The file does not exist, cannot be read, unpacks to far more than its size, or needs PyTorch, which
            is not installed.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: does not exist.")
    try:
        check_archive(path)
        if str(path).endswith(".npz"):
            return read_arrays(path)
        return _read_torch(path)
    except UserError:
        raise
    except Exception as error:  # Damaged bytes make zip, zlib, pickle and NumPy raise anything.
        reason = summarize(error)
        raise UserError(f"{path}: cannot be read as a checkpoint: {reason}") from None


def _read_torch(path):
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            f"{path}: reading this file needs PyTorch. Install its CPU build, or save the state dict elsewhere with "
            "numpy.savez(NAME, **{key: value.numpy() for key, value in state_dict.items()})."
        ) from None
    if str(path).endswith(".safetensors"):
        # Comes with PyTorch where such files are used.
        from safetensors.torch import load_file  # pyright: ignore[reportMissingImports]

        state = load_file(path)
    else:
        # Other pickles may run any code.
        with torch.serialization.safe_globals(_STAND_INS):
            state = torch.load(path, map_location="cpu", weights_only=True)
    while isinstance(state, dict):
        nested = next((state[key] for key in _NESTING_KEYS if isinstance(state.get(key), dict)), None)
        if nested is None:
            break
        state = nested
    if not isinstance(state, dict):
        raise UserError(f"{path}: contains {type(state).__name__} instead of a state dict.")
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    # A tensor may repeat one number as often as it likes.
    check_claim(path, sum(4 * value.numel() for value in tensors.values()))
    return {name: value.float().numpy() for name, value in tensors.items()}
