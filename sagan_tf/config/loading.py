"""From config files and flags to a `Config`; every error says where the value was written."""

import codecs
import contextlib
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sagan_tf.config.catalog import config_path, named_configs
from sagan_tf.config.command_line import help_text, read_command_line
from sagan_tf.config.differences import as_yaml
from sagan_tf.config.fields import Config
from sagan_tf.config.keys import field_types
from sagan_tf.config.ranges import ConfigError
from sagan_tf.config.saving import config_yaml
from sagan_tf.config.values import read_value, type_in_words
from sagan_tf.config.yaml_files import Setting, read_yaml
from sagan_tf.errors import UserError


def load_config(argv: Sequence[str] | None = None, prog: str = "python -m sagan_tf.train") -> Config:
    """Makes the config of a command. Later files override earlier ones, and flags override files.

    Args:
        argv: list of str, arguments such as `["--config", "cifar10", "--training.steps", "500"]`. Defaults to those of
            this process. Without a config, the flags change the quick start.
        prog: Command that the help names.

    Returns:
        Config, with a run folder: without `--run`, that of a `config.yaml` in a run folder is this folder.

    Raises:
        UserError: An option, a file, a name or a value cannot be used.
        SystemExit: With code 0 after `--help` or `--print_config`.
    """
    return load_command_line(argv, prog)[0]


def load_command_line(argv=None, prog="python -m sagan_tf.train"):
    """Makes the config of a command as `load_config` does; returns (Config, `read_command_line`'s namespace).

    The namespace has `note` besides: a line about the run folder if a config file names another; or None.
    """
    options = read_command_line(sys.argv[1:] if argv is None else argv, prog)
    settings, options.note = _read_files(options.config, follow_moves="run" not in options.flags)
    config = _make_config(options.config, settings | options.flags)
    if options.help is not None:
        print(help_text(config, prog, everything=options.help == "all"), end="")
        sys.exit(0)
    if options.print_config:
        is_utf8 = codecs.lookup(getattr(sys.stdout, "encoding", None) or "utf-8").name == "utf-8"
        print(config_yaml(config, ascii_only=not is_utf8), end="")  # a config is read as UTF-8
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
    return _make_config([path], _read_files([path], follow_moves=False)[0])


def _make_config(paths, settings):
    config = _build(Config() if paths else QUICK_START, settings)
    if config.run is None:
        name = Path(paths[-1]).stem if paths else "quickstart"
        config = dataclasses.replace(config, run=f"runs/{name}")
    return config


def _read_files(paths, follow_moves):
    """Settings of config files, and a note or None; with `follow_moves`, a moved run folder has its new path."""
    settings, note = {}, None
    for path in map(config_path, paths):
        file_settings = read_yaml(path)
        if "run" in file_settings:
            note = None  # of an earlier file
        if follow_moves and _is_of_run(path):
            file_settings["run"], note = _run_in_place(path, file_settings.get("run"))
        settings |= file_settings
    return settings, note


def _is_of_run(path):
    """Whether a file is the config of a folder that training began in, other than a download or weights alone."""
    return Path(path).name == "config.yaml" and (Path(path).parent / "environment.json").exists()


def _run_in_place(path, setting):
    """The setting of `run` for the config of a run folder: where it is now; and a note if the folder was moved."""
    folder, old = Path(path).parent, setting and setting.value
    with contextlib.suppress(ValueError):  # a zero character in the file, which is rejected later
        if isinstance(old, str) and os.path.realpath(old) == os.path.realpath(folder):
            return setting, None
    folder = str(folder) if folder != Path() else os.path.abspath(folder)
    return Setting(folder, str(path)), f"Run folder: {folder}, where this config is; its `run` is `{as_yaml(old)}`."


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


QUICK_START = read_config(named_configs()["quickstart"])  # of `sagan train` without a config
