"""YAML files as flat settings that remember their line. Values stay text, so that files and flags are read alike."""

from typing import NamedTuple

import yaml

from sagan_tf.config.catalog import suggest_config
from sagan_tf.config.keys import field_types, section_types, suggest_key
from sagan_tf.config.values import accepts_null, type_in_words
from sagan_tf.errors import UserError, format_size

_MAX_FILE_BYTES = 1 << 20
_MAX_VALUES = 10_000  # with every alias written out


class Setting(NamedTuple):
    """A value as the user wrote it: str, None or a list of these, and where it was written."""

    value: object
    source: str


def read_yaml(path):
    """Reads a config file as a dict of full field path -> `Setting`, whose values stay text.

    Raises UserError if it does not exist or is not YAML, or if it names a field that is unknown or given twice.
    """
    try:
        return _read(path)
    except RecursionError:
        raise UserError(f"{path}: lists or keys are nested too deeply.") from None


def _read(path):
    root = _compose(path)
    if root is None:
        raise UserError(f"{path}: the file holds no settings.")
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path}, line {_line(root)}: expected `key: value` lines.")
    if _count_values(root, {}) > _MAX_VALUES:
        raise UserError(f"{path}: its aliases stand for more than {_MAX_VALUES:,} values. Write the values themselves.")
    settings, types, sections = {}, field_types(), section_types()
    for key, node, line in _leaves(root, f"{path}, line ", sections):
        source = f"{path}, line {line}"
        if key not in types:
            raise UserError(f"{source}: unknown key `{key}`.{suggest_key(key, [*types, *sections])}")
        if key in settings:
            raise UserError(f"{source}: `{key}` is given twice.")
        if isinstance(node, yaml.MappingNode):
            raise UserError(f"{source}: `{key}` must be {type_in_words(types[key])}, without keys below it.")
        settings[key] = Setting(_value(node, accepts_null(types[key])), source)
    return settings


def _compose(path):
    try:
        with open(path, "rb") as file:
            text = file.read(_MAX_FILE_BYTES + 1)
        if len(text) > _MAX_FILE_BYTES:
            raise UserError(f"{path}: too large for a config file, more than {format_size(_MAX_FILE_BYTES)}.")
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such config file.{suggest_config(path)}") from None
    except OSError as error:
        raise UserError(f"{path}: the config file cannot be read: {error.strerror}.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(filter(None, (error.context, error.problem)))
        raise UserError(f"{path}, line {mark.line + 1}: {problem}.") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise UserError(f"{path}: not a text file in UTF-8.") from None


def _count_values(node, counts):
    """Number of nodes below one, with every alias written out; `counts` holds that of each node that was visited."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in counts:
        counts[id(node)] = 0  # for an alias of a node within itself
        pairs = isinstance(node, yaml.MappingNode)
        children = [child for pair in node.value for child in pair] if pairs else node.value
        counts[id(node)] = 1 + sum(_count_values(child, counts) for child in children)
    return counts[id(node)]


def _line(node):
    return node.start_mark.line + 1


def _leaves(mapping, at, sections, prefix=""):
    """Yields (full key, node, line) of all settings."""
    seen = set()
    for key_node, node in mapping.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise UserError(f"{at}{_line(key_node)}: a key must be a name.")
        key = prefix + key_node.value
        if key in sections:
            if key in seen:
                raise UserError(f"{at}{_line(key_node)}: `{key}` is given twice.")
            if isinstance(node, yaml.MappingNode):
                yield from _leaves(node, at, sections, f"{key}.")
            elif not _is_null(node):
                raise UserError(f"{at}{_line(node)}: `{key}` must hold `key: value` lines, indented below it.")
        else:
            yield key, node, _line(key_node)
        seen.add(key)


def _is_null(node):
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _value(node, null_allowed):
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, False) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {_value(key, False): _value(value, False) for key, value in node.value}
    return None if null_allowed and _is_null(node) else node.value
