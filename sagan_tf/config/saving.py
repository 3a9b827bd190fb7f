"""A config as a YAML file that reads back as the same config."""

from dataclasses import asdict

import yaml

from sagan_tf.files.atomic import write_text


def config_yaml(config):
    """Writes out every field.

    Args:
        config: `Config`.

    Returns:
        str, YAML.
    """
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True, width=120)


def save_config(config, path):
    """Saves a config with all fields as a YAML file, atomically."""
    write_text(path, config_yaml(config))
