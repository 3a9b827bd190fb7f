"""A config as a YAML file that reads back as the same config."""

from dataclasses import asdict
from pathlib import Path

import yaml

from sagan_tf.config.fields import Config
from sagan_tf.files.atomic import write_text


def config_yaml(config: Config, ascii_only: bool = False) -> str:
    """Writes all fields of a `Config` as YAML; with `ascii_only`, other letters escaped, which reads back the same."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=not ascii_only, width=120)


def save_config(config: Config, path: str | Path) -> None:
    """Saves a `Config` with all fields as a YAML file, atomically."""
    write_text(path, config_yaml(config))
