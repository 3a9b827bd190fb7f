"""The training behind a run's generator, as an export's model card describes it."""

from sagan_tf.files.hashing import sha256
from sagan_tf.runs.environment import hardware_text, versions_text
from sagan_tf.runs.evaluations import read_evaluations
from sagan_tf.runs.portable import dataset_name, file_name, without_paths


def describe_training(run):
    """Returns the training and metrics of a run's newest generator as JSON values; UserError without a generator."""
    run.check_generator()
    config, step, environment = run.config(), run.generator_step(), _last_environment(run)
    decay = config.training.ema_decay
    average = "none, the last weights" if decay is None else f"of the weights over training (EMA), decay {decay:g}"
    return {
        "data": f"{dataset_name(config.data.name)}, split {config.data.split}",
        "step": step,
        "average": average,
        "seed": config.training.seed,
        "class_names": run.known_class_names(),
        "generator_sha256": sha256(run.generator_path),
        "metrics": _newest_metrics(run),
        "evaluations": _evaluations(run, step),
        "how": _how(config, environment or {}),
        "config": without_paths(config),
        "environment": environment,
    }


def _how(config, environment):
    """How weights and metrics were made: dict, label -> text."""
    rows = {"versions": versions_text(environment), "hardware": hardware_text(environment)}
    options, first = config.evaluation, config.training.seed + 1
    if options.interval:
        network = "Inception" if options.features is None else file_name(options.features)
        rows["evaluation during training"] = (
            f"{options.num_samples:,} samples, seeds {first} to {first + options.num_samples - 1}, against "
            f"{dataset_name(config.data.name)}, split {options.split or config.data.split}, by {network}"
        )
    return rows


def _newest_metrics(run):
    """Newest value of every metric with its step, without those of single layers."""
    newest = {}
    for line in run.read_metrics():
        for name, value in line.items():
            if name not in ("step", "images") and "/" not in name and isinstance(value, (int, float)):
                newest[name] = {"value": value, "step": line["step"]}
    return newest


def _evaluations(run, step):
    """Results for the generator of a step, without paths of this machine."""
    return [
        {name: value for name, value in evaluation.items() if name not in ("best", "pictures", "protocol")}
        for evaluation in _largest(e for e in read_evaluations(run) if e["step"] == step and not e["best"])
    ]


def _largest(evaluations):
    """Keeps, of evaluations with the same protocol and figures, the one with the most samples."""
    kept, seen = [], set()
    for evaluation in sorted(evaluations, key=lambda e: -e["samples"]["count"]):
        samples = evaluation["samples"]
        protocol = evaluation["protocol"], evaluation["batch_normalization"]
        key = (*protocol, samples["truncation"], samples["labels"])
        if any((*key, title) not in seen for title in evaluation["figures"]):
            kept.append(evaluation)
        seen |= {(*key, title) for title in evaluation["figures"]}
    return kept


def _last_environment(run):
    starts = run.starts()
    return {name: value for name, value in starts[-1].items() if name != "command"} if starts else None
