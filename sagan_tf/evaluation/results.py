"""The result of an evaluation, as a table for people and as JSON for programs."""

import json
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Result:
    """The result of an evaluation.

    Args:
        subject: dict of JSON values, what was evaluated.
        metrics: list of `MetricValue`.
        left_out: dict, name of a metric -> why it could not be computed.
        about: dict of JSON values, all else that determines the numbers.
        is_inception: bool, as of the `FeatureNetwork`.
        files: list of pathlib.Paths that were written.
    """

    subject: dict
    metrics: list
    left_out: dict
    about: dict
    is_inception: bool
    files: list


def format_table(result):
    """Formats a `Result` for the terminal: one line per metric."""
    titles = [metric.title(result.is_inception) for metric in result.metrics]
    width = max(map(len, titles), default=0)
    lines = [
        f"{title:{width}}  {_number(metric):>20}  {metric.note}".rstrip()
        for title, metric in zip(titles, result.metrics)
    ]
    by_reason = {}
    for name, reason in result.left_out.items():
        by_reason.setdefault(reason, []).append(name.replace("_", " "))
    lines += [f"{', '.join(names):{width}}  {'-':>20}  {reason}" for reason, names in by_reason.items()]
    return "\n".join(lines)


def _number(metric):
    value = f"{metric.value:.4g}" if abs(metric.value) < 1000 else f"{metric.value:.1f}"
    return value if metric.error is None else f"{value} ± {metric.error:.2g}"


def to_json(result):
    """Formats a `Result` as JSON; numbers that are not finite become null."""
    metrics = {
        metric.key: {
            "title": metric.title(result.is_inception),
            "value": float(metric.value) if np.isfinite(metric.value) else None,
            "error": metric.error,
            "note": metric.note,
            **(metric.details or {}),
        }
        for metric in result.metrics
    }
    content = {"subject": result.subject, "figures": metrics, "left_out": result.left_out, **result.about}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
