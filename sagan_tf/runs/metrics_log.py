"""The metrics of a run folder: `metrics.jsonl`, and the means of the line that is not due yet."""

import json
import math
import os

from sagan_tf.errors import UserError
from sagan_tf.files.atomic import write_text
from sagan_tf.files.untrusted import check_kind
from sagan_tf.runs.records import read_record

_MAX_LINE = 1 << 20  # characters


class MetricsLog:
    """Lines of metrics, each a dict with `step` and numbers by name.

    Args:
        path: pathlib.Path of the JSON-lines file.
        unfinished_path: pathlib.Path of the JSON file for a run that stops between two lines.
    """

    def __init__(self, path, unfinished_path):
        self.path, self.unfinished_path = path, unfinished_path

    def append(self, metrics):
        """Appends a line and waits until it is on the disk. NaN and infinity, which JSON does not have, become null."""
        finite = {name: value if _is_finite(value) else None for name, value in metrics.items()}
        with open(self.path, "a", encoding="utf-8", opener=_open_without_following) as file:
            file.write(json.dumps(finite, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self):
        """Reads all lines, a list of dicts. A last line that a killed process left incomplete is ignored."""
        return [json.loads(line) for line in self._lines()]

    def truncate_after(self, step):
        """Removes the lines after a step, atomically."""
        if self.path.exists():
            kept = [line for line in self._lines() if json.loads(line)["step"] <= step]
            write_text(self.path, "".join(line + "\n" for line in kept))

    def save_unfinished(self, unfinished):
        """Saves the means of a line that is not due yet: dict of `step`, `steps` (averaged over) and `means`."""
        if all(map(math.isfinite, unfinished["means"].values())):
            write_text(self.unfinished_path, json.dumps(unfinished) + "\n")

    def read_unfinished(self):
        """Reads what `save_unfinished` saved; None if nothing."""
        return read_record(self.unfinished_path, _parse_unfinished, "the means of an unfinished metrics line")

    def _lines(self):
        """Yields the lines, of a file of any length."""
        if not self.path.exists():
            return
        check_kind(self.path)
        try:
            with open(self.path, encoding="utf-8", errors="replace", newline="\n") as file:
                for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE), ""), start=1):
                    if not line.endswith("\n") and len(line) < _MAX_LINE:
                        return
                    if not _is_metrics_line(line):
                        raise UserError(f"{self.path}, line {number}: not a line of metrics. Remove it.")
                    yield line.removesuffix("\n")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read: {error.strerror}.") from None


def _open_without_following(path, flags):
    # A link could lead to a file of somebody else.
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _is_metrics_line(line):
    try:
        values = json.loads(line)
        step, are_numbers = values["step"], all(map(_is_number_or_null, values.values()))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return False
    return are_numbers and type(step) is int and 0 <= step < 2**63


def _parse_unfinished(value):
    step, steps = int(value["step"]), int(value["steps"])
    means = {name: float(number) for name, number in value["means"].items()}
    if not step >= steps > 0 or not all(map(math.isfinite, means.values())):
        raise ValueError
    return {"step": step, "steps": steps, "means": means}


def _is_finite(value):
    return not isinstance(value, float) or math.isfinite(value)


def _is_number_or_null(value):
    return value is None or (type(value) in (int, float) and math.isfinite(value))
