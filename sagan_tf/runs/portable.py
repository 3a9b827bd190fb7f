"""Configs and names of data sets without paths of this machine."""

import dataclasses
import json
import os
import re


def dataset_name(name):
    """The name of a data set as it is; of a folder only the last part, as its path is this machine's."""
    # TensorFlow Datasets' names have one slash at most, but for those of a namespace, such as huggingface:owner/name.
    is_path = name.startswith((".", "/", "~")) or (name.strip("/").count("/") > 1 and ":" not in name.partition("/")[0])
    return last_part(name) if is_path or os.path.isdir(name) else name


def last_part(path):
    """The last part of a path; a repository, hf://owner/name, as it is."""
    return path if path.startswith("hf://") else os.path.basename(os.path.abspath(path))


def file_name(path):
    """The last part of a path, or of `PATH:NAME`; a folder may end with a slash."""
    return os.path.basename(re.sub("/+(?=:|$)", "", path))


# Fields of a config that may hold a path of this machine -> function that gives what is left of it elsewhere, or None.
PATH_FIELDS = {
    "run": None,
    "data.name": dataset_name,
    "data.data_dir": None,
    "data.manual_dir": None,
    "training.start_from": last_part,
    "evaluation.features": file_name,
    "evaluation.inception": file_name,
}


def portable_config(config, run=None):
    """A `Config` without paths of this machine, and with another `run`."""
    changes = {"run": run}
    for key, portable in PATH_FIELDS.items():
        section, _, name = key.rpartition(".")
        if section:
            options = changes.get(section, getattr(config, section))
            path = getattr(options, name)
            changes[section] = dataclasses.replace(options, **{name: portable(path) if path and portable else None})
    return dataclasses.replace(config, **changes)


def without_paths(config):
    """The values of a `Config` as JSON values, without paths of this machine."""
    values = json.loads(json.dumps(dataclasses.asdict(portable_config(config))))
    for key in (key for key, portable in PATH_FIELDS.items() if portable is None):
        section, _, name = key.rpartition(".")
        del (values[section] if section else values)[name]
    return values
