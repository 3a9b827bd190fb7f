"""Models and versions as they lie on disk; imports nothing of TensorFlow, so that bad paths are told at once."""

import os
import re


def find_versions(folder):
    """The versions of a model that lie complete in a folder.

    Args:
        folder: Of the model.

    Returns:
        list of ints, rising. What is being written has another name, or lacks its graph or its variables' index.
    """
    names = [name for name in _folders_in(folder) if re.fullmatch(r"0|[1-9][0-9]{0,18}", name)]
    return sorted(int(name) for name in names if _is_complete(os.path.join(folder, name)))


def find_models(folder):
    """The models in a folder: it is one itself, holds some, or is what `python -m sagan_tf.export` wrote.

    Args:
        folder: Path.

    Returns:
        dict, name -> folder.
    """
    folder = os.path.abspath(folder)
    if find_versions(folder):
        return {os.path.basename(folder): folder}
    for parent in (folder, os.path.join(folder, "saved_model")):
        inner = {name: os.path.join(parent, name) for name in sorted(_folders_in(parent))}
        models = {name: path for name, path in inner.items() if find_versions(path)}
        if models:
            return models
    return {}


def state_of(folder):
    """What tells whether a version has changed since it was last looked at.

    Args:
        folder: Of the version.

    Returns:
        frozenset of (path, size, time of change).
    """
    files = (os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return frozenset((path, *_size_and_time(path)) for path in files)


def _size_and_time(path):
    try:
        found = os.stat(path)
    except OSError:  # a link to nowhere or in a circle
        found = os.lstat(path)
    return found.st_size, found.st_mtime_ns


def _folders_in(folder):
    try:
        # Not the entry's own `is_dir`, which fails at a link that leads to itself.
        return [name for name in os.listdir(folder) if os.path.isdir(os.path.join(folder, name))]
    except OSError:
        return []


def _is_complete(folder):
    variables = os.path.join(folder, "variables")
    try:
        return os.path.isfile(os.path.join(folder, "saved_model.pb")) and (
            # A model without variables has an empty folder, or none.
            not os.path.isdir(variables) or not os.listdir(variables)
            or os.path.isfile(os.path.join(variables, "variables.index"))
        )  # fmt: skip
    except OSError:  # not ours to read, or just taken away
        return False
