"""State dicts from files, as NumPy arrays."""

import os

import numpy as np

from sagan_tf.errors import UserError
from sagan_tf.files.untrusted import check_archive

_HOLDERS = ("state_dict", "generator", "discriminator", "model")  # Where checkpoints keep the dict that matters.


def read_state_dict(path):
    """Reads the tensors of a checkpoint; code in it is not run.

    Args:
        path: `.npz` file of named arrays, `.safetensors` file, or a checkpoint of torch.save (needs PyTorch).

    Returns:
        dict, name -> NumPy array.

    Raises:
        UserError: There is no such file, it cannot be read, unpacks to far more than its size, or PyTorch is needed
            and not installed.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: is not there.")
    try:
        check_archive(path)
        if str(path).endswith(".npz"):
            # Opened here: NumPy leaves a file open that turns out to be damaged.
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as data:
                return dict(data)
        return _from_torch(path)
    except UserError:
        raise
    except Exception as error:  # damaged bytes make zip, zlib, pickle and NumPy raise anything
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: cannot be read as a checkpoint: {reason}") from None


def _from_torch(path):
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path}: needs PyTorch to be read. Install its CPU build, or save the state dict elsewhere with "
            "numpy.savez(NAME, **{key: value.numpy() for key, value in state_dict.items()})."
        ) from None
    if str(path).endswith(".safetensors"):
        from safetensors.torch import load_file  # PyTorch users have it where they have such files.

        state = load_file(path)
    else:
        # weights_only: a pickle may run anything.
        state = torch.load(path, map_location="cpu", weights_only=True)
    while isinstance(state, dict) and not any(isinstance(value, torch.Tensor) for value in state.values()):
        inner = next((state[name] for name in _HOLDERS if name in state), None)
        if inner is None:
            break
        state = inner
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds no state dict but {type(state).__name__}.")
    return {name: value.float().numpy() for name, value in state.items() if isinstance(value, torch.Tensor)}
