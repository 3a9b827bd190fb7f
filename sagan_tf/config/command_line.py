"""The options of a command: what was given, and the help."""

import argparse
import functools
import inspect

import docstring_parser
from jsonargparse import ArgumentParser, DefaultHelpFormatter

from sagan_tf.config.checks import flat_fields
from sagan_tf.config.fields import Config
from sagan_tf.config.names import field_types, section_types, suggest_key
from sagan_tf.config.types import accepts_null
from sagan_tf.config.yaml_files import Given
from sagan_tf.errors import UserError

_DESCRIPTION = """\
Settings come from the defaults below, then from the config files in their order, then from the flags, which always win.
Without --config, the quick start: a small network on embedded pictures, minutes on two CPU cores.
A config file has the same names, in sections: `training:` and, indented below it, `steps: 1000`."""


class _HelpFormatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the lines of the description, and adds type and default to each option."""


def read_command_line(argv):
    """Sorts the arguments of a command, not looking at the values.

    Args:
        argv: list of str.

    Returns:
        argparse.Namespace with `config` (list of paths), `print_config`, `help` (bools), and `flags`: dict, full path
        of a field -> `Given`.

    Raises:
        UserError: An option is unknown or lacks its value.
    """
    types = field_types()
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", action="append", default=[])
    parser.add_argument("--print_config", action="store_true")
    parser.add_argument("-h", "--help", action="store_true")
    for key, hint in types.items():
        # A bare flag such as --data.flip means true.
        bare = {"nargs": "?", "const": "true"} if hint is bool else {}
        parser.add_argument(f"--{key}", dest=key, default=argparse.SUPPRESS, **bare)
    try:
        options, unknown = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise UserError(f"command line: a value must follow {error.argument_name}.") from None
    if unknown:
        _refuse(unknown[0], [*types, "config", "print_config", "help"])
    texts = {key: vars(options).pop(key) for key in types if key in options}
    options.flags = {key: Given(_plain(text, types[key]), "command line") for key, text in texts.items()}
    return options


def _plain(text, hint):
    return None if text == "null" and accepts_null(hint) else text


def _refuse(argument, known):
    if not argument.startswith("-"):
        raise UserError(f"command line: unexpected `{argument}`. Options look like --training.steps 1000.")
    name = argument.lstrip("-").partition("=")[0]
    if name in section_types():
        raise UserError(f"command line: --{name} is a section; give its fields, such as --training.steps 1000.")
    raise UserError(f"command line: unknown option --{name}.{suggest_key(name, known, '--')}")


@functools.cache
def field_parser(prog):
    """Makes the parser that gives the fields their types and prints the help.

    Args:
        prog: Command that the help names.

    Returns:
        jsonargparse.ArgumentParser with an option a field, in a group a section.
    """
    parser = ArgumentParser(
        prog=prog,
        usage="%(prog)s [--config FILE ...] [--SECTION.FIELD VALUE ...]",
        description=_DESCRIPTION,
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
        exit_on_error=False,
    )
    defaults, types = dict(flat_fields(Config())), field_types()
    helps = _helps(Config)
    unlisted = {"default": argparse.SUPPRESS}  # read_command_line reads them; here they are for the help
    parser.add_argument(
        "--config", metavar="FILE", help="YAML file. Of several, a later one overrides an earlier.", **unlisted
    )
    parser.add_argument("--print_config", action="store_true", help="Print the complete config and exit.", **unlisted)
    parser.add_argument("--run", type=_parsed(types["run"]), default=None, help=helps["run"])
    for section, cls in section_types().items():
        group = parser.add_argument_group(section, inspect.getdoc(cls).partition("\n")[0])
        for name, text in _helps(cls).items():
            key = f"{section}.{name}"
            group.add_argument(f"--{key}", type=_parsed(types[key]), default=defaults[key], help=text)
    return parser


def _parsed(hint):
    # As `str | None` jsonargparse would read a folder called "# a" or "~" as null; null reaches it as None already.
    return str if hint == str | None else hint


def _helps(cls):
    params = docstring_parser.parse(cls.__doc__).params
    return {param.arg_name: param.description for param in params}
