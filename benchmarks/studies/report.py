"""Tables and pictures of what is done of a study: STUDY/results.json, results.md, samples.png and samples_ARM.png."""

import json
import subprocess
import sys

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
ATTENTION = ("distance_px", "uniform_distance_px", "outside_field", "effective_keys")
_PLACE = ("network", "layer", "pictures")
_CONFIDENCE = 0.95
_COLUMNS_PER_CLASS = 4


def write_report(study, folder):
    """Writes the results of a study; says where, or that nothing is done."""
    runs = read_runs(study, folder)
    if not runs:
        print(f"{study.name}: nothing is done.")
        return
    attention = {arm: attention_of([run for run in runs if run["arm"] == arm], folder) for arm in study.arms}
    write_text(folder / "results.json", json.dumps(results(study, runs, attention), indent=1) + "\n")
    write_text(folder / "results.md", page(study, runs) + attention_table(attention))
    for name, table in pictures(study, runs, folder):
        save_table(table, folder / name)
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


def attention_of(runs, folder):
    """Measures the attention maps of runs by `sagan_tf.attend`, once; lists its numbers, none without attention."""
    summaries = []
    for run in runs:
        out = folder / run["arm"] / str(run["seed"]) / "attention"
        has_attention = any(name.startswith("gamma/") for name in last_metrics(out.parent / "run"))
        if has_attention and not any(out.glob("summary_*.json")):
            command = [sys.executable, "-m", "sagan_tf.attend", out.parent / "run", "--out", out]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for path in out.glob("summary_*.json"):
            summaries += [{"seed": run["seed"], **summary} for summary in json.loads(path.read_text())]
    return summaries


def last_metrics(run):
    lines = (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").exists() else []
    return json.loads(lines[-1]) if lines else {}


def attention_table(attention):
    """Markdown: how far and how sharply each arm attends, means over its seeds; empty without attention."""
    measured = {arm: summaries for arm, summaries in attention.items() if summaries}
    if not measured:
        return ""
    lines = [
        "", "Attention, means over 32 images and the seeds: distance between query and key, share that convolutions of "
        "the same depth cannot give, and number of keys of a uniform map with the same entropy.", "",
        row(["arm", "network", "layer", "images", "distance, px", "uniform", "beyond field", "effective keys"]),
        row(["---"] * 8),
    ]  # fmt: skip
    for arm, summaries in measured.items():
        for key in dict.fromkeys(tuple(summary[name] for name in _PLACE) for summary in summaries):
            own = [summary for summary in summaries if tuple(summary[name] for name in _PLACE) == key]
            mean = {name: np.mean([summary[name] for summary in own]) for name in own[0] if name in ATTENTION}
            cells = [f"{mean['distance_px']:.1f}", f"{mean['uniform_distance_px']:.1f}"]
            cells += [f"{mean['outside_field']:.0%}", f"{mean['effective_keys']:.1f} of {own[0]['keys']}"]
            lines.append(row([arm, *key, *cells]))
    return "\n".join(lines) + "\n"


def results(study, runs, attention):
    """What results.json holds."""
    return {
        "study": study.name,
        "question": study.question,
        "attention": attention,
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
    """Yields (file name, `Table`): a row per arm, of its first seed; for each arm with several seeds a row per seed."""
    finished = [run for run in runs if not run["failure"]]
    arms = {arm: [run for run in finished if run["arm"] == arm] for arm in study.arms}
    first = [own[0] for own in arms.values() if own]
    if len(first) > 1:
        titles = [f"{run['arm']}, seed {run['seed']}" for run in first]
        yield "samples.png", sample_rows(study.name, first, titles, folder)
    for arm, own in arms.items():
        if len(own) > 1:
            yield f"samples_{arm}.png", sample_rows(arm, own, [f"seed {run['seed']}" for run in own], folder)


def sample_rows(title, runs, row_titles, folder):
    """A `Table` with a row per run: the same latents, those of the seeds 0 to 3 of each class."""
    rows = []
    for run in runs:
        generator = load_generator(folder / run["arm"] / str(run["seed"]) / "run" / "generator.keras")
        classes = generator.num_classes or 1
        labels = np.repeat(np.arange(classes), _COLUMNS_PER_CLASS) if generator.num_classes else None
        rows.append(generator.sample(np.tile(np.arange(_COLUMNS_PER_CLASS), classes), labels))
    return Table(np.stack(rows), tuple(row_titles), (), f"{title}: samples of the seeds 0 to {_COLUMNS_PER_CLASS - 1}")


def _with_interval(values):
    mean, half = interval(values)
    return _number(mean) if np.isnan(half) else f"{_number(mean)} ± {_number(half)}"


def _number(value):
    return "" if value is None or np.isnan(value) else f"{value:.3f}".removeprefix("0")
