"""The result of an evaluation, as a table for people and as JSON for programs."""

import json
from dataclasses import dataclass, field

import numpy as np

from sagan_tf.generation.truncation import truncation_text


@dataclass(frozen=True)
class Result:
    """The result of an evaluation.

    Args:
        subject: dict of JSON values, what was evaluated.
        metrics: list of `MetricValue`.
        left_out: dict, name of a metric -> why it could not be computed.
        about: dict of JSON values, all else that determines the numbers.
        is_inception: bool, see the `FeatureNetwork`.
        files: list of pathlib.Paths that were written.
        curve: list of (truncation, list of `MetricValue`), for the same number of samples and seeds.
    """

    subject: dict
    metrics: list
    left_out: dict
    about: dict
    is_inception: bool
    files: list
    curve: list = field(default_factory=list)


def format_table(result):
    """Formats a `Result` for the terminal: one line per metric, and one per truncation of a curve."""
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
    for truncation, metrics in result.curve:
        values = (f"{metric.title(result.is_inception)} {_number(metric)}" for metric in metrics)
        lines.append(f"{f'truncation {truncation_text(truncation)}':{width}}  {', '.join(values)}")
    return "\n".join(lines)


def _number(metric):
    value = f"{metric.value:.4g}" if abs(metric.value) < 1000 else f"{metric.value:.1f}"
    return value if metric.error is None else f"{value} ± {metric.error:.2g}"


def to_json(result):
    """Formats a `Result` as JSON; numbers that are not finite become null."""
    figures = _figures(result.metrics, result.is_inception)
    content = {"subject": result.subject, "figures": figures, "left_out": result.left_out, **result.about}
    if result.curve:
        content["truncation_curve"] = [
            {"truncation": truncation, "figures": _figures(metrics, result.is_inception)}
            for truncation, metrics in result.curve
        ]
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _figures(metrics, is_inception):
    return {
        metric.key: {
            "title": metric.title(is_inception),
            "value": float(metric.value) if np.isfinite(metric.value) else None,
            "error": metric.error if metric.error is None or np.isfinite(metric.error) else None,
            "note": metric.note,
            **(metric.details or {}),
        }
        for metric in metrics
    }
