"""The names of the fields, their types in plain words, and the right name nearest to a wrong one."""

import difflib
import types
import typing
from dataclasses import fields, is_dataclass

from sagan_tf.config.fields import Config

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_MANY = {int: "a list of whole numbers such as [8, 16]"}


def field_types(cls=Config, prefix=""):
    """Types of all leaves of a config.

    Args:
        cls: Dataclass type.
        prefix: Path of it, with its dot.

    Returns:
        dict, full path -> type hint, in the order of the fields.
    """
    hints, found = typing.get_type_hints(cls), {}
    for field in fields(cls):
        if is_dataclass(hints[field.name]):
            found |= field_types(hints[field.name], f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = hints[field.name]
    return found


def section_types():
    """Types of the sections of a config.

    Returns:
        dict, name such as `training` -> dataclass type.
    """
    hints = typing.get_type_hints(Config)
    return {field.name: hints[field.name] for field in fields(Config) if is_dataclass(hints[field.name])}


def accepts_null(hint):
    """Whether a field may be null.

    Args:
        hint: Type hint of the field.

    Returns:
        bool.
    """
    return type(None) in typing.get_args(hint)


def type_in_words(hint):
    """Says what a field takes.

    Args:
        hint: Type hint of the field.

    Returns:
        str, such as "a whole number or null".
    """
    if hint in _WORDS:
        return _WORDS[hint]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is tuple:
        if inner[0] in _MANY:
            return _MANY[inner[0]]
        choices = typing.get_args(inner[0])
        return f"a list such as [{', '.join(choices[:2])}], of {', '.join(choices)}"
    if origin is types.UnionType:
        return " or ".join("null" if part is type(None) else type_in_words(part) for part in inner)
    raise TypeError(f"No words for the type {hint!r}.")


def did_you_mean(name, known, prefix=""):
    """Suggests the names nearest to a wrong one.

    Args:
        name: str.
        known: Right names.
        prefix: Put before each suggestion, such as the dashes of a flag.

    Returns:
        str, such as " Did you mean `training.steps`?", or "" where nothing is near.
    """
    name = name.replace("-", "_")
    near = [right for right in known if right.rpartition(".")[2] == name.rpartition(".")[2]]
    if not near or name.count("."):
        near = difflib.get_close_matches(name, known, 1, 0.7) or near
    if not near:
        tails = {right.rpartition(".")[2]: right for right in known}
        near = [tails[tail] for tail in difflib.get_close_matches(name.rpartition(".")[2], tails, 1, 0.7)]
    return f" Did you mean {' or '.join(f'`{prefix}{right}`' for right in near[:3])}?" if near else ""
