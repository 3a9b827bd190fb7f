"""A config as a YAML file that reads back as the same config."""

import os
from dataclasses import asdict
from pathlib import Path

import yaml


def config_yaml(config):
    """Writes out every field.

    Args:
        config: `Config`.

    Returns:
        str, YAML.
    """
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True, width=120)


def save_config(config, path):
    """Saves a config as a complete YAML file; the file is there whole or not at all.

    Args:
        config: `Config`.
        path: Path of the file; its folder exists.
    """
    path = Path(path)
    beside = path.with_name(path.name + ".partial")
    with open(beside, "w", encoding="utf-8") as file:
        file.write(config_yaml(config))
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
