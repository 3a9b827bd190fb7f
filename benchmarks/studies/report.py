"""Tables and pictures of what is done of a study, in STUDY: results.json, results.md, curves.png, samples*.png."""

import json
import subprocess
import sys

import numpy as np
from reporting import load_pyplot, set_log_scale
from scipy.stats import t

from sagan_tf.experiment.trained import load_generator
from sagan_tf.files.atomic import write_text
from sagan_tf.training.guard import FailureSigns
from sagan_tf.viewing.image_grids import Table, save_table

# Of `run_one.py`'s scores or, without a rule, of the evaluation during training; with the heading of each.
MEASURES = {
    "score": "score",
    "valid": "valid",
    "hue_agreement": "hue agrees",
    "kind_agreement": "kind agrees",
    "place_agreement": "place agrees",
    "class_accuracy": "class is right",
    "entropy_bits": "bits",
    "pixel_distance": "Fréchet distance of pixels",
    "frechet_distance": "Fréchet distance",
    "fid": "FID",
}
ATTENTION = ("distance_px", "uniform_distance_px", "outside_field", "effective_keys")
_PLACE = ("network", "layer", "pictures")
_DISTANCES = ("pixel_distance", "frechet_distance", "fid")
_CONFIDENCE = 0.95
_SEEDS, _COLUMNS = 4, 20  # of a picture, at most


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
    draw_curves(study, runs, folder / "curves.png")
    print(f"{study.name}: {len(runs)} of {len(study.runs())} runs, in {folder}/results.md")


def read_runs(study, folder):
    """Reads what each finished run wrote: a list of its result.json with its scores."""
    runs = []
    for arm, seed in study.runs():
        run = folder / arm / str(seed)
        if (run / "result.json").exists():
            metrics = lines_of(run / "run" / "metrics.jsonl")
            scores = lines_of(run / "scores.jsonl") or [line for line in metrics if set(MEASURES) & set(line)]
            known = {"arm": arm, "seed": seed, "scores": scores, "signs": guard_signs(metrics)}
            runs.append({**json.loads((run / "result.json").read_text()), **known})
    return runs


def guard_signs(metrics):
    """What the guard saw in the lines of a metrics file: {"ever": sorted names, "at_end": sorted names}."""
    signs, ever, failing = FailureSigns(), set(), set()
    for line in metrics:
        if "sample_diversity" not in line:  # of an evaluation
            continue
        failing = signs.of(line)
        ever |= failing
    return {"ever": sorted(ever), "at_end": sorted(failing)}


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
        metrics = lines_of(out.parent / "run" / "metrics.jsonl")
        has_attention = any(name.startswith("gamma/") for line in metrics for name in line)
        if has_attention and not any(out.glob("summary_*.json")):
            command = [sys.executable, "-m", "sagan_tf.attend", out.parent / "run", "--out", out]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for path in out.glob("summary_*.json"):
            summaries += [{"seed": run["seed"], **summary} for summary in json.loads(path.read_text())]
    return summaries


def lines_of(path):
    """The objects of a file of JSON lines; none if it does not exist."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


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
    first, first_seeds = runs[0], sorted({run["sample_seeds"][0] for run in runs})
    lines = [
        f"# {study.name}", "", study.question, "",
        f"{len(runs)} of {len(study.runs())} runs. Each is scored on {first['samples']:,} samples of the averaged "
        f"generator, seeds from {'/'.join(map(str, first_seeds))} on. Mean over the seeds, ± half "
        "of its 95 % confidence interval (Student's t), without those that diverged. Warned: the guard saw a sign of "
        "failure in some line of the metrics, or at the end of training.", "",
        row(["arm", "seeds", "diverged", "warned", "at the end", *(MEASURES[name] for name in measures)]),
        row(["---"] * (5 + len(measures))),
    ]  # fmt: skip
    for arm in study.arms:
        own = [run for run in runs if run["arm"] == arm]
        if own:
            diverged = sum(run["failure"] is not None for run in own)
            warned = [sum(bool(run["signs"][when]) for run in own) for when in ("ever", "at_end")]
            cells = [_with_interval(last_scores(own, name)) for name in measures]
            lines.append(row([arm, *map(str, (len(own), diverged, *warned)), *cells]))
    lines += ["", "Every run:", "", row(["arm", "seed", "steps", *(MEASURES[name] for name in measures)])]
    lines.append(row(["---"] * (3 + len(measures))))
    for run in runs:
        last = run["scores"][-1] if run["scores"] else {}
        cells = [_number(last.get(name)) for name in measures]
        lines.append(row([run["arm"], str(run["seed"]), run["failure"] or str(last.get("step", "")), *cells]))
    return "\n".join(lines) + "\n"


def row(cells):
    return "| " + " | ".join(cells) + " |"


def draw_curves(study, runs, path):
    """Draws score and distance against the step: a thin line per run, a thick one for the median of an arm."""
    pyplot = load_pyplot()
    measures = [name for name in ("score", *_DISTANCES) if any(name in line for run in runs for line in run["scores"])]
    figure, panels = pyplot.subplots(1, len(measures), figsize=(5.5 * len(measures), 4), squeeze=False)
    for panel, measure in zip(panels[0], measures):
        for arm, color in zip(study.arms, pyplot.cm.tab10.colors):
            own = [run["scores"] for run in runs if run["arm"] == arm]
            curves = [[(line["step"], line[measure]) for line in scores if measure in line] for scores in own]
            for curve in curves:
                panel.plot(*zip(*curve), color=color, linewidth=0.6, alpha=0.5)
            steps = sorted({step for curve in curves for step, _ in curve})
            at = [[dict(curve)[step] for curve in curves if step in dict(curve)] for step in steps]
            panel.plot(steps, [np.median(values) for values in at], color=color, linewidth=2.2, label=arm)
        panel.set(xlabel="steps", title=MEASURES[measure])
        if measure in _DISTANCES:
            set_log_scale(panel)
    panels[0][-1].legend(frameon=False, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


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
    """A `Table` with a row per run: the same latents, those of the first seeds of each class."""
    rows = []
    for run in runs:
        generator = load_generator(folder / run["arm"] / str(run["seed"]) / "run" / "generator.keras")
        classes = generator.num_classes or 1
        seeds = np.arange(min(_SEEDS, max(1, _COLUMNS // classes)))
        labels = np.repeat(np.arange(classes), len(seeds)) if generator.num_classes else None
        rows.append(generator.sample(np.tile(seeds, classes), labels))
    return Table(np.stack(rows), tuple(row_titles), (), f"{title}: samples of the seeds 0 to {seeds[-1]}")


def _with_interval(values):
    mean, half = interval(values)
    return _number(mean) if np.isnan(half) else f"{_number(mean)} ± {_number(half)}"


def _number(value):
    return "" if value is None or np.isnan(value) else f"{value:.3f}".removeprefix("0")
