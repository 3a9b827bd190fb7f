"""Reading a value by its type hint, and naming a type in plain words."""

import argparse
import functools
import types
import typing

from jsonargparse import ArgumentParser

_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_LISTS = {int: "a list of whole numbers such as [8, 16]"}


def read_value(hint, value):
    """Converts text, or a list of texts, to the type of a hint.

    Args:
        hint: Type hint.
        value: str, None, or a list of these, as from YAML or the command line.

    Returns:
        The value in its type.

    Raises:
        ValueError: The value has another type or is out of the range of the type.
    """
    try:
        return _parser(hint).parse_object({"value": value}).value
    except (argparse.ArgumentError, OverflowError) as error:  # the second: a whole number too large for a float
        raise ValueError(str(error)) from None


@functools.cache
def _parser(hint):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    return parser


def accepts_null(hint):
    """Whether a type includes None."""
    return type(None) in typing.get_args(hint)


def type_in_words(hint):
    """Names a type in plain words, such as "a whole number or null"."""
    if hint in _NAMES:
        return _NAMES[hint]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, inner))}" if len(inner) > 1 else str(inner[0])
    if origin is tuple:
        if inner[0] in _LISTS:
            return _LISTS[inner[0]]
        choices = typing.get_args(inner[0])
        return f"a list such as [{', '.join(choices[:2])}], of {', '.join(choices)}"
    if origin in (types.UnionType, typing.Union):
        return " or ".join("null" if part is type(None) else type_in_words(part) for part in inner)
    if isinstance(hint, type) and issubclass(hint, int | float | str):
        return hint.__doc__  # a restricted type of jsonargparse
    raise TypeError(f"No words for the type {hint!r}.")
