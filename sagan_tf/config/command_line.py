"""The command line of `train`: an option for each field of a config."""

import argparse
import inspect

from sagan_tf.config.checks import flat_fields
from sagan_tf.config.differences import as_yaml
from sagan_tf.config.fields import Config
from sagan_tf.config.names import field_types, section_types, suggest_key
from sagan_tf.config.types import accepts_null, field_helps, metavar
from sagan_tf.config.yaml_files import Setting
from sagan_tf.errors import UserError

_DESCRIPTION = """\
Settings come from the defaults below, then from the config files in their order, then from the flags, which always win.
Without --config: the quick start, a small network on embedded pictures that trains in minutes on two CPU cores.
A config file has the same names in sections: `training:` and, indented below it, `steps: 1000`."""


def read_command_line(argv, prog):
    """Reads the arguments of a command; the values stay text.

    Args:
        argv: list of str.
        prog: Command that the help names.

    Returns:
        argparse.Namespace with `config` (list of paths), `print_config` and `allow_data_change` (bool), and `flags`:
        dict, full path of a field -> `Setting`.

    Raises:
        UserError: An option is unknown or lacks its value.
        SystemExit: With code 0 after `--help`.
    """
    types = field_types()
    try:
        options, unknown = _make_parser(prog, types).parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise UserError(f"command line: a value must follow {error.argument_name}.") from None
    if unknown:
        _reject(unknown[0], [*types, "config", "print_config", "allow_data_change", "help"])
    texts = {key: vars(options).pop(key) for key in types if key in options}
    options.flags = {
        key: Setting(None if text == "null" and accepts_null(types[key]) else text, "command line")
        for key, text in texts.items()
    }
    return options


def _make_parser(prog, types):
    parser = argparse.ArgumentParser(
        prog=prog,
        usage="%(prog)s [--config FILE ...] [--SECTION.FIELD VALUE ...]",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument(
        "--config", action="append", default=[], metavar="FILE",
        help="YAML file. Of several, a later one overrides an earlier one.",
    )  # fmt: skip
    parser.add_argument("--print_config", action="store_true", help="Print the complete config and exit.")
    parser.add_argument(
        "--allow_data_change", action="store_true",
        help="Resume with data that are not those of the run so far: other pictures, or other names of the classes.",
    )  # fmt: skip
    groups, helps = {"": parser}, {"": field_helps(Config)}
    for section, cls in section_types().items():
        groups[section] = parser.add_argument_group(section, inspect.getdoc(cls).partition("\n")[0])
        helps[section] = field_helps(cls)
    defaults = dict(flat_fields(Config()))
    for key, hint in types.items():
        section, _, name = key.rpartition(".")
        groups[section].add_argument(
            f"--{key}",
            default=argparse.SUPPRESS,
            metavar=metavar(hint, name),
            help=f"{helps[section][name]} (default: {as_yaml(defaults[key])})",
            # A bare flag such as --data.flip means true.
            **({"nargs": "?", "const": "true"} if hint is bool else {}),
        )
    return parser


def _reject(argument, known):
    if not argument.startswith("-"):
        raise UserError(f"command line: unexpected `{argument}`. Options look like --training.steps 1000.")
    name = argument.lstrip("-").partition("=")[0]
    if name in section_types():
        raise UserError(f"command line: --{name} is a section; give its fields, such as --training.steps 1000.")
    raise UserError(f"command line: unknown option --{name}.{suggest_key(name, known, '--')}")
