"""Keys of a config: the full paths of its fields, their types, and suggestions for misspelt ones."""

import difflib
import typing
from dataclasses import fields, is_dataclass

from sagan_tf.config.fields import Config


def field_types(cls=Config, prefix=""):
    """Types of all fields of a config: dict, full path such as `training.steps` -> type hint, in order."""
    hints, leaves = typing.get_type_hints(cls), {}
    for field in fields(cls):
        hint = hints[field.name]
        leaves |= field_types(hint, f"{prefix}{field.name}.") if is_dataclass(hint) else {prefix + field.name: hint}
    return leaves


def section_types():
    """Sections of a config: dict, name such as `training` -> dataclass."""
    return {name: hint for name, hint in typing.get_type_hints(Config).items() if is_dataclass(hint)}


def suggest_key(name, known, prefix=""):
    """Suggests the full keys nearest to a wrong one, also where only the part after the dot is right.

    Returns a sentence such as " Did you mean `training.steps`?", with `prefix` before each key; "" if none is near.
    """
    name = name.replace("-", "_")
    nearest = [key for key in known if key.rpartition(".")[2] == name.rpartition(".")[2]]
    if not nearest or "." in name:
        nearest = difflib.get_close_matches(name, known, 1, 0.7) or nearest
    if not nearest:
        tails = {key.rpartition(".")[2]: key for key in known}
        nearest = [tails[tail] for tail in difflib.get_close_matches(name.rpartition(".")[2], tails, 1, 0.7)]
    return f" Did you mean {' or '.join(f'`{prefix}{key}`' for key in nearest[:3])}?" if nearest else ""
