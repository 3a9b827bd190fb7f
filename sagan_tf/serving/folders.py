"""Models and versions in a folder; does not import TensorFlow, so that the command refuses bad paths at once.

What is missing has no models. A folder that cannot be listed for another reason, such as too many open files, raises
OSError: it must not be taken for an empty one.
"""

import contextlib
import errno
import os
import re
import stat

_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def find_versions(folder):
    """Returns the complete versions in a model's folder as ints, ascending."""
    names = [name for name in _subfolders(folder) if re.fullmatch(r"0|[1-9][0-9]{0,18}", name)]
    # Both protocols have versions of 64 bits.
    return sorted(int(name) for name in names if int(name) < 2**63 and _is_complete(os.path.join(folder, name)))


def find_models(folder):
    """Returns the folders of models by name, for a model, a folder of models, or an export of sagan_tf."""
    folder = os.path.abspath(folder)
    if find_versions(folder):
        return {os.path.basename(folder): folder}
    for parent in (folder, os.path.join(folder, "saved_model")):
        models = {}
        for name in sorted(_subfolders(parent)):
            with contextlib.suppress(PermissionError):  # a foreign folder such as lost+found
                if find_versions(path := os.path.join(parent, name)):
                    models[name] = path
        if models:
            return models
    return {}


def _subfolders(folder):
    return [name for name in _list(folder) if stat.S_ISDIR(_mode(os.path.join(folder, name)))]


def _is_complete(folder):
    variables = os.path.join(folder, "variables")
    if not stat.S_ISREG(_mode(os.path.join(folder, "saved_model.pb"))):
        return False
    # A model without variables has an empty folder, or none.
    return not _list(variables) or stat.S_ISREG(_mode(os.path.join(variables, "variables.index")))


def _list(folder):
    """Names in a folder; none if it is missing."""
    try:
        return os.listdir(folder)
    except OSError as error:
        if error.errno in _MISSING:
            return []
        raise


def _mode(path):
    """Mode of a file or folder; 0 if it is missing."""
    try:
        return os.stat(path).st_mode
    except OSError as error:
        if error.errno in _MISSING:
            return 0
        raise
