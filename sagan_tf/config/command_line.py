"""The command line of `train`: an option for each field of a config."""

import argparse
import inspect
import typing

from sagan_tf.config.checks import flat_fields
from sagan_tf.config.differences import as_yaml
from sagan_tf.config.fields import Config
from sagan_tf.config.keys import field_types, section_types, suggest_key
from sagan_tf.config.values import accepts_null, field_helps, join_negative_values, metavar
from sagan_tf.config.yaml_files import Setting
from sagan_tf.errors import UserError

_EXAMPLES = """\
examples:
  %(prog)s                                           the quick start: minutes on two CPU cores, no download
  %(prog)s --config folder64 --data.name PICTURES    your own images, 64 px
  %(prog)s --config cifar10 --data.download
  %(prog)s --config cifar10 --help                   the values of this config

A config is one of `sagan configs` or a YAML file with the names below in sections: `training:` and, indented below it,
`steps: 1000`. Of several, a later one overrides an earlier one; options always win. The same command resumes a run."""

# The options that `--help` shows; `--help all` shows every field.
COMMON = (
    "run", "data.name", "data.split", "data.data_dir", "data.download", "data.image_size", "data.conditional",
    "data.flip", "generator.channels", "discriminator.channels", "generator_optimizer.learning_rate",
    "discriminator_optimizer.learning_rate", "training.steps", "training.batch_size", "training.augmentation",
    "training.seed", "hardware.precision", "output.sample_interval", "output.checkpoint_interval",
    "evaluation.interval",
)  # fmt: skip


def read_command_line(argv, prog):
    """Reads the arguments of a command; the values stay text.

    Args:
        argv: list of str.
        prog: Command that an error names.

    Returns:
        argparse.Namespace with `config` (list of paths or names), `print_config` and `allow_data_change` (bool), `help`
        ("common", "all" or None), and `flags`: dict, full path of a field -> `Setting`.

    Raises:
        UserError: An option is unknown, lacks its value, or has one although it takes none.
    """
    types = field_types()
    try:
        options, unknown = make_parser(prog, types).parse_known_args(join_negative_values(argv))
    except argparse.ArgumentError as error:
        if error.message.startswith("ignored explicit argument"):
            raise UserError(f"command line: {error.argument_name} takes no value.") from None
        raise UserError(f"command line: a value must follow {error.argument_name}.") from None
    if options.help not in (None, "common", "all"):
        raise UserError(f"command line: --help takes `all` or nothing. Got `{options.help}`.")
    if unknown:
        _reject(unknown[0], [*types, "config", "print_config", "allow_data_change", "help"])
    texts = {key: vars(options).pop(key) for key in types if key in options}
    options.flags = {
        key: Setting(None if text == "null" and accepts_null(types[key]) else text, "command line")
        for key, text in texts.items()
    }
    return options


def help_text(config, prog, everything):
    """The help of a command, with the values of a `Config`: of the common options, or of all (`everything`)."""
    types = field_types()
    keys = list(types) if everything else COMMON
    return make_parser(prog, {key: types[key] for key in keys}, dict(flat_fields(config)), everything).format_help()


def make_parser(prog, types, values=None, everything=True):
    """Makes the argparse.ArgumentParser of a command.

    Args:
        prog: Command that the help names.
        types: dict, full path of a field -> type hint; each is an option.
        values: dict, full path of a field -> value that the help shows; None shows none.
        everything: bool. Whether `types` are all fields; otherwise the help says how to list them.

    Returns:
        argparse.ArgumentParser, which raises argparse.ArgumentError. Values stay text.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        usage="%(prog)s [--config NAME ...] [--SECTION.FIELD VALUE ...]",
        description=_EXAMPLES,
        epilog=None if everything else "--help all lists all options.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        exit_on_error=False,
        add_help=False,
    )
    parser.add_argument(
        "--config", action="append", default=[], metavar="NAME",
        help="One of `sagan configs`, or a YAML file. Without one: the quick start.",
    )  # fmt: skip
    parser.add_argument(
        "-h", "--help", nargs="?", const="common", metavar="all",
        help="Show this help, or all options, and exit.",
    )  # fmt: skip
    parser.add_argument("--print_config", action="store_true", help="Print the complete config and exit.")
    parser.add_argument(
        "--allow_data_change", action="store_true",
        help="Resume although the data differ from the run's: other images or class names.",
    )  # fmt: skip
    groups, helps = {"": parser}, {"": field_helps(Config)}
    used = {key.partition(".")[0] for key in types}
    for section, cls in section_types().items():
        if section not in used:
            continue
        groups[section] = parser.add_argument_group(section, inspect.getdoc(cls).partition("\n")[0])
        helps[section] = field_helps(cls)
    for key, hint in types.items():
        section, _, name = key.rpartition(".")
        groups[section].add_argument(
            f"--{key}",
            default=argparse.SUPPRESS,
            metavar=metavar(hint, name),
            help=helps[section][name] + (f" (default: {as_yaml(values[key])})" if values else ""),
            # A bare flag such as --data.flip means true.
            **({"nargs": "?", "const": "true"} if bool in (hint, *typing.get_args(hint)) else {}),
        )
    return parser


def _reject(argument, known):
    if not argument.startswith("-"):
        raise UserError(f"command line: unexpected `{argument}`. Options look like --training.steps 1000.")
    name = argument.lstrip("-").partition("=")[0]
    if name in section_types():
        raise UserError(f"command line: --{name} is a section; give its fields, such as --training.steps 1000.")
    raise UserError(f"command line: unknown option --{name}.{suggest_key(name, known, '--')}")
