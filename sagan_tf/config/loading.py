"""From config files and flags to a `Config`; every error says where the value was written."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from sagan_tf.config.command_line import help_text, read_command_line
from sagan_tf.config.differences import as_yaml
from sagan_tf.config.fields import Config
from sagan_tf.config.named import config_path
from sagan_tf.config.names import field_types
from sagan_tf.config.quick_start import QUICK_START
from sagan_tf.config.ranges import ConfigError
from sagan_tf.config.saving import config_yaml
from sagan_tf.config.types import read_value, type_in_words
from sagan_tf.config.yaml_files import read_yaml
from sagan_tf.errors import UserError


def load_config(argv: Sequence[str] | None = None, prog: str = "python -m sagan_tf.train") -> Config:
    """Makes the config of a command. Later files override earlier ones, and flags override files.

    Args:
        argv: list of str, arguments such as `["--config", "cifar10", "--training.steps", "500"]`. Defaults to those of
            this process. Without a config, the flags change the quick start.
        prog: Command that the help names.

    Returns:
        Config, with a run folder.

    Raises:
        UserError: An option, a file, a name or a value cannot be used.
        SystemExit: With code 0 after `--help` or `--print_config`.
    """
    return load_command_line(argv, prog)[0]


def load_command_line(argv=None, prog="python -m sagan_tf.train"):
    """Makes the config of a command as `load_config` does; returns (Config, `read_command_line`'s namespace)."""
    options = read_command_line(sys.argv[1:] if argv is None else argv, prog)
    settings = {}
    for path in options.config:
        settings |= read_yaml(config_path(path))
    settings |= options.flags
    config = _build(Config() if options.config else QUICK_START, settings)
    if config.run is None:
        name = Path(options.config[-1]).stem if options.config else "quickstart"
        config = dataclasses.replace(config, run=f"runs/{name}")
    if options.help is not None:
        print(help_text(config, prog, everything=options.help == "all"), end="")
        sys.exit(0)
    if options.print_config:
        print(config_yaml(config), end="")
        sys.exit(0)
    return config, options


def read_config(path: str | Path) -> Config:
    """Reads one config, such as that of a run folder.

    Args:
        path: Path of the YAML file, or name of a config that comes with the package.

    Returns:
        Config.

    Raises:
        UserError: The file cannot be read, or a name or value in it cannot be used.
    """
    return load_config(["--config", str(path)])


def _build(base, settings):
    """Replaces fields of a base config."""
    types, sections = field_types(), {}
    for key, setting in settings.items():
        section, _, name = key.rpartition(".")
        sections.setdefault(section, {})[name] = _read(key, types[key], setting)
    changes = sections.pop("", {})
    for section, values in sections.items():
        changes[section] = dataclasses.replace(getattr(base, section), **values)
    try:
        return dataclasses.replace(base, **changes)
    except ConfigError as error:
        source = settings[error.key].source if error.key in settings else base is QUICK_START and "quick start"
        raise UserError(f"{source}: {error}" if source else str(error)) from None


def _read(key, hint, setting):
    try:
        return read_value(hint, setting.value)
    except ValueError:
        expected, received = type_in_words(hint), as_yaml(setting.value)
        raise UserError(f"{setting.source}: `{key}` must be {expected}. Got {received!r}.") from None
