"""Where an exported generator comes from, read off its run folder."""

import dataclasses
import json
import os

from sagan_tf.errors import UserError
from sagan_tf.files.hashing import sha256
from sagan_tf.generation.loading import read_generator


def load_generator(run, path=None):
    """Loads the averaged generator of a run.

    Args:
        run: `Run`.
        path: Another generator's in the run folder; None: the newest.

    Returns:
        keras.Model.

    Raises:
        UserError: The file cannot be read.
    """
    path = path or run.generator_path
    try:
        return read_generator(path)
    except Exception as error:  # damaged bytes make zip, JSON, HDF5 and Keras raise anything
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: no generator of this program can be read from it: {reason}") from None


def describe_training(run, config):
    """Says what a run's generator was trained on, for how long, and how good it was found.

    Args:
        run: `Run`.
        config: Its `Config`.

    Returns:
        dict of JSON values, as `make_model_card` takes.

    Raises:
        UserError: There is no generator yet, or a file of the run cannot be read.
    """
    if not run.generator_path.is_file():
        raise UserError(
            f"{run.generator_path}: there is no generator yet; training writes it with its first checkpoint. "
            f"Train on with: python -m sagan_tf.train --config {run.config_path}"
        )
    return {
        "data": f"{config.data.name}, split {config.data.split}",
        "step": _last_step(run),
        "average": _average(config.training.ema_decay),
        "seed": config.training.seed,
        "class_names": run.class_names(),
        "generator_sha256": sha256(run.generator_path),
        "metrics": _metrics(run),
        "evaluations": _evaluations(run),
        "config": _public(config),
        "environment": _last_environment(run),
    }


def _average(decay):
    return "none, the last weights" if decay is None else f"of the weights over training (EMA), decay {decay:g}"


def _last_step(run):
    # The name of the newest checkpoint, which is written together with the generator.
    return next((int(path.rpartition("-")[2]) for path in run.checkpoints()), None)


def _metrics(run):
    """Newest value of every metric and its step, but for those of single layers."""
    newest = {}
    for line in run.read_metrics():
        for name, value in line.items():
            if name not in ("step", "images") and "/" not in name and isinstance(value, (int, float)):
                newest[name] = {"value": value, "step": line["step"]}
    return newest


def _evaluations(run):
    """What `sagan_tf.evaluate` found of the newest generator; a file that is none of its results is passed over."""
    found = []
    for path in sorted(run.evaluation_path.glob("step_*.json")):
        try:
            page = json.loads(path.read_text(encoding="utf-8"))
            if page["subject"]["step"] == _last_step(run):
                found.append(_evaluation(page))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            continue
    return found


def _evaluation(page):
    samples, features = page["samples"], page["features"]
    return {
        "features": str(features["name"]),
        "features_sha256": str(features["sha256"]),
        "samples": {"count": int(samples["count"]), "seeds": [int(seed) for seed in samples["seeds"]],
                    "truncation": float(samples["truncation"])},
        "batch_normalization": str(page["subject"]["batch_normalization"]),
        "reference": str(page["reference"].get("data")),
        "split": str(page["reference"].get("split")),
        "figures": {
            str(one["title"]): {
                "value": _number(one["value"]), "error": _number(one["error"]), "note": str(one["note"])
            }
            for one in page["figures"].values()
        },
    }


def _number(value):
    return None if value is None else float(value)


def _public(config):
    """The config without where things lie on this machine."""
    values = json.loads(json.dumps(dataclasses.asdict(config)))
    for section, name in ((values, "run"), (values["data"], "data_dir"), (values["data"], "manual_dir")):
        section.pop(name)
    for name in ("features", "inception"):
        path = values["evaluation"][name]
        values["evaluation"][name] = None if path is None else os.path.basename(path)
    return values


def _last_environment(run):
    starts = run.starts()
    return {name: value for name, value in starts[-1].items() if name != "command"} if starts else None
