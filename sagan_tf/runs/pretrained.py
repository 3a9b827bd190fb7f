"""The run folders that come with the package: weights and config of trained generators."""

from pathlib import Path

from sagan_tf.errors import UserError, did_you_mean

_WEIGHTS = Path(__file__).parents[1] / "weights"


def pretrained_folder(name):
    """Returns the pathlib.Path of the run folder of a name; UserError lists the names if there is none."""
    names = sorted(folder.name for folder in _WEIGHTS.iterdir() if folder.is_dir())
    if name not in names:
        hint = did_you_mean(name, names) or f" There are: {', '.join(names)}."
        raise UserError(f"pretrained: there are no weights `{name}`.{hint}")
    return _WEIGHTS / name
