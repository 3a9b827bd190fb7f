"""Command-line parsers made from dataclasses: names, types, defaults and help come from the fields."""

import argparse
import dataclasses
import functools
import inspect
import types
import typing
from dataclasses import MISSING
from pathlib import Path

import docstring_parser

from sagan_tf.config.types import read_value, type_in_words
from sagan_tf.errors import UserError, did_you_mean


def positional(metavar=None, default=MISSING, nargs=None):
    """Declares a field of an options dataclass as a positional argument; other fields are `--name` options."""
    return dataclasses.field(default=default, metadata={"positional": True, "metavar": metavar, "nargs": nargs})


def parse_options(cls, argv, prog):
    """Parses the arguments of a command.

    Args:
        cls: Dataclass of the options. Its docstring describes the command in the first line and each option under Args.
        argv: list of str. None for those of this process.
        prog: Command that the help names.

    Returns:
        Instance of `cls`.

    Raises:
        UserError: An option is unknown, missing, or has a bad value.
        SystemExit: With code 0 after `--help`.
    """
    return cls(**vars(_make_parser(cls, prog).parse_args(argv)))


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UserError(f"command line: {message}. --help lists the options.")


def _make_parser(cls, prog):
    description = inspect.getdoc(cls)
    parser = _Parser(prog=prog, description=description.partition("\n")[0], allow_abbrev=False)
    helps = {param.arg_name: param.description for param in docstring_parser.parse(description).params}
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        _add(parser, field, hints[field.name], helps[field.name])
    return parser


def _add(parser, field, hint, text):
    required, metadata = field.default is MISSING, field.metadata
    if metadata.get("positional"):
        names, settings = [field.name], {"nargs": metadata["nargs"]}
    else:
        spellings = dict.fromkeys([field.name, field.name.replace("_", "-"), metadata.get("alias", field.name)])
        names, settings = [f"--{spelling}" for spelling in spellings], {"required": required, "dest": field.name}
    if hint is bool:
        parser.add_argument(*names, action="store_true", help=text)
        return
    hint = _without_null(hint)
    if settings.get("nargs") == "+":
        hint = typing.get_args(hint)[0]
    default = None if required else field.default
    if typing.get_origin(hint) is tuple and (choices := _choices(hint)):
        text = f"{text} Choose from {', '.join(choices)}."
    parser.add_argument(
        *names,
        type=metadata.get("read") or functools.partial(_read, names[0], hint),
        default=default,
        metavar=metadata.get("metavar") or _metavar(hint, field.name),
        help=text + ("" if default in (None, ()) else f" (default: {_shown(default)})"),
        **settings,
    )


def _without_null(hint):
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return hint
    return typing.Union[tuple(part for part in typing.get_args(hint) if part is not type(None))]


def _choices(hint):
    """Values of a Literal, or of a tuple of one; empty for other types."""
    if typing.get_origin(hint) is tuple:
        return _choices(typing.get_args(hint)[0])
    return typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()


def _metavar(hint, name):
    if typing.get_origin(hint) is tuple:
        return "A,B"
    if choices := _choices(hint):
        return f"{{{','.join(choices)}}}"
    if hint is Path:
        return "PATH"
    return "N" if isinstance(hint, type) and issubclass(hint, int | float) else name.upper()


def _shown(default):
    if isinstance(default, tuple):
        return ",".join(map(_shown, default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def _read(name, hint, text):
    """Reads a value; several values of a tuple are separated by commas."""
    if typing.get_origin(hint) is tuple:
        items = [item.strip() for item in text.split(",") if item.strip()]
        if not items:
            raise UserError(f"{name}: the list is empty. Name something, or leave {name} out.")
        return tuple(_read(name, typing.get_args(hint)[0], item) for item in items)
    try:
        return read_value(hint, text)
    except ValueError:
        suggestion = did_you_mean(text, _choices(hint))
        raise UserError(f"{name}: `{text}` is not {type_in_words(hint)}.{suggestion}") from None
