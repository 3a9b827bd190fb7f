"""Results of `sagan_tf.evaluate` in a run folder, as the report and an export's model card show them."""

import json
import math

from sagan_tf.errors import UserError
from sagan_tf.files.hashing import sha256_of_parts
from sagan_tf.files.untrusted import read_json
from sagan_tf.generation.truncation import NO_TRUNCATION, truncation_text
from sagan_tf.runs.environment import hardware_text, versions_text
from sagan_tf.runs.portable import dataset_name

PICTURES = ("samples", "neighbors", "truncation_curve")  # kinds of images beside a result
_DAMAGED = (UserError, OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


def read_evaluations(run):
    """Reads the results of a `Run`, by step; files of another form are skipped.

    Returns:
        list of dicts of JSON values: `step`, `best` (whether of the best generator during training), `features`,
        `features_sha256`, `samples`, `batch_normalization`, `reference`, `split` (or None), `protocol` (a hash of
        features and reference), `figures`, `how` (label -> text: how the figures were made) and `pictures` (paths of
        PNG files).
    """
    evaluations = []
    for path in sorted(run.evaluation_path.glob("*.json")):
        try:
            evaluation = _evaluation(read_json(path))
        except _DAMAGED:
            continue
        pictures = (path.with_name(f"{path.stem}_{kind}.png") for kind in PICTURES)
        evaluation["best"] = path.name.startswith("best")
        evaluation["pictures"] = [picture for picture in pictures if picture.is_file()]
        evaluations.append(evaluation)
    return sorted(evaluations, key=lambda evaluation: evaluation["step"] or 0)


def _evaluation(result):
    samples, features, reference, subject = (result[key] for key in ("samples", "features", "reference", "subject"))
    evaluation = {
        "step": None if subject["step"] is None else int(subject["step"]),
        "features": "pixels" if features is None else str(features["name"]),
        "features_sha256": None if features is None else str(features["sha256"]),
        "samples": {
            "count": int(samples["count"]),
            "seeds": [int(seed) for seed in samples["seeds"]],
            "truncation": _finite(samples["truncation"]),
            "labels": str(samples.get("labels") or ""),
        },
        "batch_normalization": str(subject["batch_normalization"]),
        "reference": dataset_name(str(reference.get("data"))),
        "split": None if reference.get("split") is None else str(reference["split"]),
        "protocol": sha256_of_parts([json.dumps([features, reference], sort_keys=True).encode()]),
        "figures": {str(figure["title"]): _figure(figure) for figure in result["figures"].values()},
    }
    return evaluation | {"how": _how(evaluation, result), "summary": _summary(evaluation)}


def _summary(evaluation):
    """What tells the results of one step apart, in a line."""
    samples = evaluation["samples"]
    truncated = samples["truncation"] < NO_TRUNCATION
    truncation = f" of truncation {truncation_text(samples['truncation'])}" if truncated else ""
    data = evaluation["reference"] + (f", {evaluation['split']}" if evaluation["split"] else "")
    return f"{samples['count']:,} samples{truncation} against {data}, by {evaluation['features']}"


def _how(evaluation, result):
    """How the figures were made: dict, label -> text."""
    samples, reference, environment = evaluation["samples"], result["reference"], result.get("environment") or {}
    truncation = samples["truncation"]
    truncated = f"truncation {truncation_text(truncation)}"
    count = reference.get("count")
    network = evaluation["features"]
    if evaluation["features_sha256"]:
        network += f", SHA-256 {evaluation['features_sha256'][:12]}"
    return {
        "generator": str(result["subject"]["generator"]),
        "batch normalization": evaluation["batch_normalization"],
        "samples": f"{samples['count']:,}, seeds {samples['seeds'][0]} to {samples['seeds'][-1]}, {truncated}"
        + (f", labels {samples['labels']}" if samples["labels"] else ""),
        "data": evaluation["reference"]
        + (f", split {evaluation['split']}" if evaluation["split"] else "")
        + (f", {int(count):,} images" if count else ""),
        "features": network,
        "versions": versions_text(environment),
        "hardware": f"{hardware_text(environment)}; {result.get('devices', '?')} device(s) used",
        "measured": f"{environment.get('started_at', 'unknown')}, in {result.get('seconds', '?')} s",
    }


def _figure(figure):
    value, error = (None if figure[name] is None else _finite(figure[name]) for name in ("value", "error"))
    note = str(figure["note"])
    text = "unknown" if value is None else f"{value:.6g}" + ("" if error is None else f" ± {error:.2g}")
    return {"value": value, "error": error, "note": note, "text": f"{text} ({note})" if note else text}


def _finite(value):
    if not math.isfinite(number := float(value)):
        raise ValueError
    return number
