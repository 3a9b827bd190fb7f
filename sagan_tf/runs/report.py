"""Writes the report page of one run folder or several."""

import dataclasses
import datetime
import shlex
from pathlib import PurePath

from sagan_tf.config.checks import flat_fields
from sagan_tf.config.differences import as_yaml
from sagan_tf.files.atomic import write_text
from sagan_tf.runs.evaluations import read_evaluations
from sagan_tf.runs.folder import pictures_by_step
from sagan_tf.viewing.report import RunRecord, report_page

_READERS = ("sample", "attend", "evaluate")  # commands that read a run


def write_report(runs, path):
    """Writes the HTML page of one `Run` or several, finished or not."""
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    records = [describe_run(run) for run in runs]
    if len({record.name for record in records}) < len(records):  # such as first/quickstart and second/quickstart
        records = [dataclasses.replace(record, name=run.source) for record, run in zip(records, runs)]
    write_text(path, report_page(records, now))


def describe_run(run):
    """Reads what the page shows of a run."""
    config = run.config()
    training, starts = config.training, run.starts()
    environment = dict(starts[-1]) if starts else {}
    started_by = environment.pop("command", None)
    return RunRecord(
        name=run.name,
        steps=training.steps,
        images_per_step=training.images_per_step,
        # A run shorter than `output.log_interval` has no line of metrics.
        step=run.generator_step() or 0,
        metrics=run.read_metrics(),
        config=[(key, as_yaml(value)) for key, value in flat_fields(config)],
        environment=environment or None,
        starts=len(starts),
        samples=pictures_by_step(run.samples_path),
        attention=pictures_by_step(run.attention_path),
        contact_sheet=run.contact_sheet_path if run.contact_sheet_path.is_file() else None,
        commands=(
            *([shell_command(started_by)] if started_by else []),
            *(shlex.join(["sagan", command, run.source]) for command in _READERS),
            _loading_code(run),
        ),
        class_names=tuple(run.class_names() or ()),
        evaluations=_evaluations(run),
    )


def _loading_code(run):
    """Lines of Python that load a run."""
    labels = ", labels=run.class_names[0]" if run.class_names() else ""
    lines = (
        "import sagan_tf",
        f"run = sagan_tf.load_run({run.source!r})",
        f"images = run.sample(seeds=range(8){labels})",
        f"maps = run.attention(seeds=[0]{labels})",
        "print(run.class_names, images.shape, list(maps))",
    )
    return "\n".join(lines)


def _evaluations(run):
    evaluations = read_evaluations(run)
    newest = max((evaluation["step"] or 0 for evaluation in evaluations), default=0)
    return [
        {
            "title": f"{'Best generator, step' if evaluation['best'] else 'Step'} {evaluation['step']}: "
            f"{evaluation['summary']}",
            "figures": [[title, figure["text"]] for title, figure in evaluation["figures"].items()],
            "how": list(evaluation["how"].items()),
            # Those of all steps would make a large page.
            "pictures": evaluation["pictures"] if (evaluation["step"] or 0) == newest else [],
        }
        for evaluation in evaluations
    ]


def shell_command(argv):
    """Returns the line for a shell that starts a program with a `sys.argv`, quoted."""
    program, *arguments = map(str, argv)
    path = PurePath(program)
    if path.suffix == ".py" and path.parent.name == "sagan_tf":
        start = ["python", "-m", "sagan_tf" if path.stem == "__main__" else f"sagan_tf.{path.stem}"]
    elif path.suffix == ".py":
        start = ["python", program]
    else:
        start = [path.name]
    return shlex.join([*start, *arguments])
