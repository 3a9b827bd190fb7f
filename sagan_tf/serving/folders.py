"""Models and versions in a folder; does not import TensorFlow, so that the command refuses bad paths at once."""

import os
import re


def find_versions(folder):
    """Returns the complete versions in a model's folder as ints, ascending."""
    names = [name for name in _subfolders(folder) if re.fullmatch(r"0|[1-9][0-9]{0,18}", name)]
    return sorted(int(name) for name in names if _is_complete(os.path.join(folder, name)))


def find_models(folder):
    """Returns the folders of models by name, for a model, a folder of models, or an export of sagan_tf."""
    folder = os.path.abspath(folder)
    if find_versions(folder):
        return {os.path.basename(folder): folder}
    for parent in (folder, os.path.join(folder, "saved_model")):
        paths = {name: os.path.join(parent, name) for name in sorted(_subfolders(parent))}
        models = {name: path for name, path in paths.items() if find_versions(path)}
        if models:
            return models
    return {}


def _subfolders(folder):
    try:
        # Not os.DirEntry.is_dir, which raises for circular links.
        return [name for name in os.listdir(folder) if os.path.isdir(os.path.join(folder, name))]
    except OSError:
        return []


def _is_complete(folder):
    variables = os.path.join(folder, "variables")
    try:
        if not os.path.isfile(os.path.join(folder, "saved_model.pb")):
            return False
        # A model without variables has an empty folder, or none.
        has_variables = os.path.isdir(variables) and os.listdir(variables)
        return not has_variables or os.path.isfile(os.path.join(variables, "variables.index"))
    except OSError:  # no permission, or just removed
        return False
