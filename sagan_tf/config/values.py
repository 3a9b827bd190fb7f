"""What a dataclass field takes: reads a value by the type hint, and describes it in error lines and in the help."""

import argparse
import functools
import re
import types
import typing
from pathlib import Path

import docstring_parser
from jsonargparse import ArgumentParser

_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_LISTS = {int: "a list of whole numbers such as [8, 16]"}


def read_value(hint, value):
    """Converts text, or a list of texts, to the type of a hint; raises ValueError if it has another type or range."""
    if value is not None and hint == str | None:
        hint = str  # jsonargparse would read the text "~" as null
    try:
        value = _parser(hint).parse_object({"value": value}).value
    except (argparse.ArgumentError, OverflowError) as error:  # the second: a whole number too large for a float
        raise ValueError(str(error)) from None
    # C extensions do not accept the restricted types, which are subclasses.
    plain = next((base for base in (bool, int, float, str) if isinstance(value, base)), None)
    return plain(value) if plain else value


@functools.cache
def _parser(hint):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    return parser


def join_negative_values(argv):
    """Writes `--name -1,1` as `--name=-1,1`: argparse takes a value with a leading minus for an option."""
    joined = []
    for argument in argv:
        if joined and re.fullmatch("--[^=]+", joined[-1]) and re.match(r"-[\d.]", argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def accepts_null(hint):
    """Whether a type includes None."""
    return type(None) in typing.get_args(hint)


def without_null(hint):
    """The type without None."""
    if not accepts_null(hint):
        return hint
    return typing.Union[tuple(part for part in typing.get_args(hint) if part is not type(None))]


def choices(hint):
    """Values of a Literal, or of a tuple of one; empty for other types."""
    hint = without_null(hint)
    if typing.get_origin(hint) is tuple:
        return choices(typing.get_args(hint)[0])
    return typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()


def type_in_words(hint):
    """Names a type in plain words, such as "a whole number or null"."""
    if hint in _NAMES:
        return _NAMES[hint]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        names = [f"`{value}`" if "," in value else value for value in map(str, inner)]
        return f"one of {', '.join(names)}" if len(names) > 1 else names[0]
    if origin is tuple:
        values = choices(hint)
        return f"a list such as [{', '.join(values[:2])}], of {', '.join(values)}" if values else _LISTS[inner[0]]
    if origin in (types.UnionType, typing.Union):
        return " or ".join("null" if part is type(None) else type_in_words(part) for part in inner)
    if isinstance(hint, type) and issubclass(hint, int | float | str):
        return hint.__doc__  # a restricted type of jsonargparse
    raise TypeError(f"No words for the type {hint!r}.")


def metavar(hint, name):
    """Names a value in the usage line of the help."""
    plain = without_null(hint)
    if typing.get_origin(plain) is tuple:
        return "LIST"
    parts = typing.get_args(plain) if typing.get_origin(plain) in (types.UnionType, typing.Union) else (plain,)
    values = [("true", "false") if part is bool else choices(part) for part in parts]
    if all(values):
        values = sum(values, ())
        separator = "|" if any("," in value for value in values) else ","
        return f"{{{separator.join([*values, 'null'] if accepts_null(hint) else values)}}}"
    if plain is Path:
        return "PATH"
    return "N" if isinstance(plain, type) and issubclass(plain, int | float) else name.upper()


def field_helps(cls):
    """The text under Args for each field of a dataclass, as a dict, escaped for argparse."""
    params = docstring_parser.parse(cls.__doc__).params
    return {param.arg_name: param.description.replace("%", "%%") for param in params}
