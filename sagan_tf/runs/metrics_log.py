"""The text files of a run folder, line by line or whole; they are written at once or not at all."""

import json
import math

from sagan_tf.errors import UserError
from sagan_tf.files.atomic import write_text
from sagan_tf.files.untrusted import read_json


def json_line(metrics):
    """Writes metrics as a line.

    Args:
        metrics: dict, `step` and named numbers. Strict JSON knows no NaN or infinity; they become null.

    Returns:
        str, with the end of the line.
    """
    finite = {key: value if _is_finite(value) else None for key, value in metrics.items()}
    return json.dumps(finite, allow_nan=False) + "\n"


def is_metrics(line):
    """Whether a line is what `json_line` writes: a step, and finite numbers or null by name.

    Args:
        line: str.

    Returns:
        bool.
    """
    try:
        values = json.loads(line)
        step, good = values["step"], all(_is_number(value) for value in values.values())
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return False
    return good and type(step) is int and 0 <= step < 2**63


def save_unfinished_line(path, found):
    """Keeps what a run that stops between two lines of metrics has of the next one.

    Args:
        path: pathlib.Path.
        found: dict with `step`, `steps`, over how many, and `means`, floats by name.
    """
    if all(map(math.isfinite, found["means"].values())):
        write_text(path, json.dumps(found) + "\n")


def read_unfinished_line(path):
    """Reads what an earlier process had of the next line of metrics when it stopped.

    Args:
        path: pathlib.Path.

    Returns:
        dict as of `save_unfinished_line`; None where there is none.

    Raises:
        UserError: The file holds something else.
    """
    if not path.is_file():
        return None
    value = read_json(path)
    try:
        step, steps = int(value["step"]), int(value["steps"])
        means = {name: float(number) for name, number in value["means"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        step = steps = means = None
    if means is None or not step >= steps > 0 or not all(map(math.isfinite, means.values())):
        raise UserError(f"{path}: this is no part of a line of metrics any more. Move it away.")
    return {"step": step, "steps": steps, "means": means}


def _is_finite(value):
    return not isinstance(value, float) or math.isfinite(value)


def _is_number(value):
    return value is None or (type(value) in (int, float) and math.isfinite(value))
