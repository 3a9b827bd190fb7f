"""From config files and flags to a `Config`; every refusal says where the value was written."""

import argparse
import dataclasses
import sys
from pathlib import Path

from sagan_tf.config.checks import ConfigError, flat_fields
from sagan_tf.config.command_line import field_parser, read_command_line
from sagan_tf.config.differences import shown
from sagan_tf.config.fields import Config
from sagan_tf.config.names import field_types, section_types
from sagan_tf.config.quick_start import QUICK_START
from sagan_tf.config.saving import config_yaml
from sagan_tf.config.types import type_in_words
from sagan_tf.config.yaml_files import Given, read_yaml
from sagan_tf.errors import UserError

_BUILT_IN = "quick start"
_UNFIT = (argparse.ArgumentError, OverflowError)  # the second: a whole number too large for a float


def load_config(argv=None, prog="python -m sagan_tf.train"):
    """Makes the config of a command. Later files override earlier ones, and flags override files.

    Args:
        argv: list of str, arguments such as `["--config", "configs/cifar10.yaml", "--training.steps", "500"]`. None:
            those of this process. Without a file, the flags change the quick start.
        prog: Command that the help names.

    Returns:
        Config, with a run folder.

    Raises:
        UserError: An option, a file, a name or a value cannot be used.
        SystemExit: With code 0 after `--help` or `--print_config`.
    """
    options = read_command_line(sys.argv[1:] if argv is None else argv)
    parser = field_parser(prog)
    if options.help:
        parser.print_help()
        sys.exit(0)
    given = {} if options.config else {key: Given(value, _BUILT_IN) for key, value in flat_fields(QUICK_START)}
    for path in options.config:
        given |= read_yaml(path)
    config = _build(parser, given | options.flags)
    if config.run is None:
        name = Path(options.config[-1]).stem if options.config else "quickstart"
        config = dataclasses.replace(config, run=f"runs/{name}")
    if options.print_config:
        print(config_yaml(config), end="")
        sys.exit(0)
    return config


def read_config(path):
    """Reads one config file, as of a run folder.

    Args:
        path: Path of the YAML file.

    Returns:
        Config.

    Raises:
        UserError: The file cannot be read, or a name or value in it cannot be used.
    """
    return load_config(["--config", str(path)])


def _build(parser, given):
    values = _typed(parser, given)
    try:
        parts = {name: cls(**vars(values[name])) for name, cls in section_types().items()}
        return Config(run=values["run"], **parts)
    except ConfigError as error:
        where = f"{given[error.key].where}: " if error.key in given else ""
        raise UserError(f"{where}{error}") from None


def _typed(parser, given):
    try:
        return parser.parse_object(_nested(given))
    except _UNFIT:
        for key, one in given.items():
            if one.where != _BUILT_IN:
                _check_type(parser, key, one)
        raise


def _check_type(parser, key, given):
    try:
        parser.parse_object(_nested({key: given}))
    except _UNFIT:
        words = type_in_words(field_types()[key])
        raise UserError(f"{given.where}: `{key}` must be {words}. Got {shown(given.value)!r}.") from None


def _nested(given):
    tree = {}
    for key, (value, _) in given.items():
        section, _, name = key.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[name] = value
    return tree
