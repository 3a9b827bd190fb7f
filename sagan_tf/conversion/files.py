"""Reads state dicts from files."""

import os

from sagan_tf.errors import UserError, summarize
from sagan_tf.files.untrusted import check_archive, read_arrays

_NESTING_KEYS = ("state_dict", "generator", "discriminator", "model")  # Under which checkpoints keep the state dict.


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
        import torch
    except ImportError:
        raise UserError(
            f"{path}: reading this file needs PyTorch. Install its CPU build, or save the state dict elsewhere with "
            "numpy.savez(NAME, **{key: value.numpy() for key, value in state_dict.items()})."
        ) from None
    if str(path).endswith(".safetensors"):
        from safetensors.torch import load_file  # Comes with PyTorch where such files are used.

        state = load_file(path)
    else:
        # Other pickles may run any code.
        state = torch.load(path, map_location="cpu", weights_only=True)
    while isinstance(state, dict) and not any(isinstance(value, torch.Tensor) for value in state.values()):
        nested = next((state[key] for key in _NESTING_KEYS if key in state), None)
        if nested is None:
            break
        state = nested
    if not isinstance(state, dict):
        raise UserError(f"{path}: contains {type(state).__name__} instead of a state dict.")
    return {name: value.float().numpy() for name, value in state.items() if isinstance(value, torch.Tensor)}
