"""Command-line parsers made from dataclasses: names, types, defaults and help come from the fields."""

import argparse
import dataclasses
import functools
import inspect
import os
import sys
import typing
from dataclasses import MISSING
from pathlib import Path

from sagan_tf.config.values import (
    choices,
    field_helps,
    join_negative_values,
    metavar,
    read_value,
    type_in_words,
    without_null,
)
from sagan_tf.errors import UserError, check_utf8, did_you_mean
from sagan_tf.files.hub import is_hub_name


def positional(metavar=None, default=MISSING, nargs=None) -> typing.Any:
    """Declares a field of an options dataclass as a positional argument; other fields are `--name` options.

    The metadata `bare` of an option is its value where the command line gives none.

    Args:
        metavar: str, its name in the help; None for that of its type.
        default: Value of the field; without one the argument is required.
        nargs: `?` or `+`, as in argparse; None for one value.

    Returns:
        dataclasses.Field.
    """
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
    argv = join_negative_values(sys.argv[1:] if argv is None else argv)
    return cls(**vars(make_parser(cls, prog).parse_args(argv)))


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UserError(f"command line: {message}. --help lists the options.")


def make_parser(cls, prog):
    """Makes the argparse.ArgumentParser of a dataclass of options; arguments as in `parse_options`."""
    description = inspect.getdoc(cls).partition("\n")[0]
    parser = _Parser(prog=prog, description=description, allow_abbrev=False)
    helps, hints = field_helps(cls), typing.get_type_hints(cls)
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
        if "bare" in metadata:
            settings |= {"nargs": "?", "const": metadata["bare"]}
            text = f"{text} Without a value: {_default_text(metadata['bare'])}."
    if hint is bool:
        parser.add_argument(*names, action="store_true", help=text)
        return
    hint = without_null(hint)
    if settings.get("nargs") == "+":
        hint = typing.get_args(hint)[0]
    default = None if required else field.default
    if typing.get_origin(hint) is tuple and choices(hint):
        text = f"{text} Choose from {', '.join(choices(hint))}."
    parser.add_argument(
        *names,
        type=metadata.get("read") or functools.partial(_read, names[0], hint),
        default=default,
        metavar=metadata.get("metavar") or metavar(hint, field.name),
        help=text + ("" if default in (None, ()) else f" (default: {_default_text(default)})"),
        **settings,
    )


def _default_text(default):
    if isinstance(default, tuple):
        return ",".join(map(_default_text, default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def _check_path(name, text):
    if not text:
        raise UserError(f"{name}: the path is empty. Name one, or leave {name} out.")
    if is_hub_name(text):
        raise UserError(f"{name}: {text} is a repository of the Hub, not a path. `sagan push` writes to the Hub.")
    if text.split(os.sep)[0] == "~":  # as in `--out=~/exports`
        raise UserError(f"{name}: only a shell knows `~`, at the start of a word. Write the whole path.")


def _read(name, hint, text):
    """Reads a value; several values of a tuple are separated by commas, and a last comma is allowed."""
    check_utf8(name, text)
    if hint is Path:
        _check_path(name, text)
    if typing.get_origin(hint) is tuple:
        items = [item.strip() for item in text.strip().removesuffix(",").split(",")]
        if not any(items):
            raise UserError(f"{name}: the list is empty. Name something, or leave {name} out.")
        if not all(items):
            raise UserError(f"{name}: `{text}` has an empty item. Remove the extra comma.")
        return tuple(_read(name, typing.get_args(hint)[0], item) for item in items)
    try:
        return read_value(hint, text)
    except ValueError:
        suggestion = did_you_mean(text, choices(hint))
        raise UserError(f"{name}: `{text}` is not {type_in_words(hint)}.{suggestion}") from None
