"""Names and types of the fields of a config, and suggestions for misspelt names."""

import difflib
import typing
from dataclasses import fields, is_dataclass

from sagan_tf.config.fields import Config


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


def suggest_key(name, known, prefix=""):
    """Suggests the full keys nearest to a wrong one, also where only the part after the dot is right.

    Args:
        name: str.
        known: Right keys.
        prefix: Put before each suggestion, such as the dashes of a flag.

    Returns:
        str, such as " Did you mean `training.steps`?", or "" where none is near.
    """
    name = name.replace("-", "_")
    nearest = [key for key in known if key.rpartition(".")[2] == name.rpartition(".")[2]]
    if not nearest or name.count("."):
        nearest = difflib.get_close_matches(name, known, 1, 0.7) or nearest
    if not nearest:
        tails = {key.rpartition(".")[2]: key for key in known}
        nearest = [tails[tail] for tail in difflib.get_close_matches(name.rpartition(".")[2], tails, 1, 0.7)]
    return f" Did you mean {' or '.join(f'`{prefix}{key}`' for key in nearest[:3])}?" if nearest else ""
