"""What was measured, as a table for people and as JSON for programs."""

import json
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Result:
    """What was measured.

    Args:
        subject: dict of JSON values, what was measured.
        figures: list of `Figure`.
        left_out: dict, metric -> why it is not there.
        about: dict of JSON values, the rest of what made the numbers.
        is_inception: bool, as of the feature network.
        files: list of pathlib.Paths that were written.
    """

    subject: dict
    figures: list
    left_out: dict
    about: dict
    is_inception: bool
    files: list


def table(result):
    """Lays out a result for the terminal.

    Args:
        result: `Result`.

    Returns:
        str, several lines.
    """
    names = [(figure.title(result.is_inception), figure) for figure in result.figures]
    width = max((len(title) for title, _ in names), default=0)
    lines = [f"{title:{width}}  {_number(figure):>20}  {figure.note}".rstrip() for title, figure in names]
    lines += [f"{_plain_metric(name):{width}}  {'-':>20}  {reason}" for name, reason in result.left_out.items()]
    return "\n".join(lines)


def _number(figure):
    value = f"{figure.value:.4g}" if abs(figure.value) < 1000 else f"{figure.value:.1f}"
    return value if figure.error is None else f"{value} ± {figure.error:.2g}"


def _plain_metric(name):
    return name.replace("_", " ")


def page(result):
    """Writes a result as JSON.

    Args:
        result: `Result`.

    Returns:
        str; numbers that are not finite are null.
    """
    figures = {
        figure.key: {"title": figure.title(result.is_inception), "value": _json_number(figure.value),
                     "error": figure.error, "note": figure.note, **(figure.more or {})}
        for figure in result.figures
    }
    whole = {"subject": result.subject, "figures": figures, "left_out": result.left_out, **result.about}
    return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _json_number(value):
    return float(value) if np.isfinite(value) else None
