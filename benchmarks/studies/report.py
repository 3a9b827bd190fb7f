"""Tables and a picture of what is done of a study: STUDY/results.json, results.md and samples.png."""

import json

import numpy as np
from scipy.stats import t

from sagan_tf.experiment.trained import load_generator
from sagan_tf.files.atomic import write_text
from sagan_tf.viewing.image_grids import Table, save_table

# Of `sagan_tf.data.rules.score`, with the heading of each.
MEASURES = {
    "score": "score",
    "valid": "valid",
    "hue_agreement": "hue agrees",
    "kind_agreement": "kind agrees",
    "place_agreement": "place agrees",
    "class_accuracy": "class is right",
    "entropy_bits": "bits",
}
_CONFIDENCE = 0.95
_COLUMNS_PER_CLASS = 4


def write_report(study, folder):
    """Writes the results of a study; says where, or that nothing is done."""
    runs = read_runs(study, folder)
    if not runs:
        print(f"{study.name}: nothing is done.")
        return
    write_text(folder / "results.json", json.dumps(results(study, runs), indent=1) + "\n")
    write_text(folder / "results.md", page(study, runs))
    if any(not run["failure"] for run in runs):
        save_table(pictures(study, runs, folder), folder / "samples.png")
    print(f"{study.name}: {len(runs)} of {len(study.runs())} runs, in {folder}/results.md")


def read_runs(study, folder):
    """Reads what each finished run wrote: a list of its result.json with its scores."""
    runs = []
    for arm, seed in study.runs():
        run = folder / arm / str(seed)
        if (run / "result.json").exists():
            scores = [json.loads(line) for line in (run / "scores.jsonl").read_text().splitlines()]
            runs.append({**json.loads((run / "result.json").read_text()), "arm": arm, "seed": seed, "scores": scores})
    return runs


def interval(values):
    """Mean of values and half the width of its 95 % confidence interval by Student's t; NaN for a single value."""
    values = np.asarray([value for value in values if value is not None], float)
    if len(values) < 2:
        return (float(values[0]) if len(values) else np.nan), np.nan
    half = t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(half)


def last_scores(runs, measure):
    """The final value of a measure of each run that did not diverge."""
    return [run["scores"][-1].get(measure) for run in runs if not run["failure"] and run["scores"]]


def results(study, runs):
    """What results.json holds."""
    return {
        "study": study.name,
        "question": study.question,
        "arms": {arm: [run for run in runs if run["arm"] == arm] for arm in study.arms},
    }


def page(study, runs):
    """Markdown: the mean of each arm, then every run."""
    measures = [name for name in MEASURES if any(last_scores(runs, name))]
    first = runs[0]
    lines = [
        f"# {study.name}", "", study.question, "",
        f"{len(runs)} of {len(study.runs())} runs. Each is scored on {first['samples']:,} samples of the averaged "
        f"generator, seeds {first['sample_seeds'][0]} to {first['sample_seeds'][1]}. Mean over the seeds, ± half "
        "of its 95 % confidence interval (Student's t).", "",
        row(["arm", "seeds", "diverged", *(MEASURES[name] for name in measures)]),
        row(["---"] * (3 + len(measures))),
    ]  # fmt: skip
    for arm in study.arms:
        own = [run for run in runs if run["arm"] == arm]
        if own:
            diverged = sum(run["failure"] is not None for run in own)
            cells = [_with_interval(last_scores(own, name)) for name in measures]
            lines.append(row([arm, str(len(own)), str(diverged), *cells]))
    lines += ["", "Every run:", "", row(["arm", "seed", "steps", *(MEASURES[name] for name in measures)])]
    lines.append(row(["---"] * (3 + len(measures))))
    for run in runs:
        last = run["scores"][-1] if run["scores"] else {}
        cells = [_number(last.get(name)) for name in measures]
        lines.append(row([run["arm"], str(run["seed"]), run["failure"] or str(last.get("step", "")), *cells]))
    return "\n".join(lines) + "\n"


def row(cells):
    return "| " + " | ".join(cells) + " |"


def pictures(study, runs, folder):
    """A `Table` with a row per arm, the same samples of the generator of its first seed; of one arm, a row per seed."""
    finished = [run for run in runs if not run["failure"]]
    first_of_arm = {run["arm"]: run for run in reversed(finished)}
    rows, titles = [], []
    for run in finished if len(study.arms) == 1 else [first_of_arm[arm] for arm in study.arms if arm in first_of_arm]:
        generator = load_generator(folder / run["arm"] / str(run["seed"]) / "run" / "generator.keras")
        classes = generator.num_classes or 1
        labels = np.repeat(np.arange(classes), _COLUMNS_PER_CLASS) if generator.num_classes else None
        rows.append(generator.sample(np.tile(np.arange(_COLUMNS_PER_CLASS), classes), labels))
        titles.append(f"seed {run['seed']}" if len(study.arms) == 1 else f"{run['arm']}, seed {run['seed']}")
    return Table(np.stack(rows), tuple(titles), (), f"{study.name}: samples of the seeds 0 to {_COLUMNS_PER_CLASS - 1}")


def _with_interval(values):
    mean, half = interval(values)
    return _number(mean) if np.isnan(half) else f"{_number(mean)} ± {_number(half)}"


def _number(value):
    return "" if value is None or np.isnan(value) else f"{value:.3f}".removeprefix("0")
