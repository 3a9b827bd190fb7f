"""Writes the report page of one run folder or several."""

import datetime
import re

from sagan_tf.config.checks import flat_fields
from sagan_tf.config.differences import as_yaml
from sagan_tf.files.atomic import write_text
from sagan_tf.viewing.report import RunRecord, report_page


def write_report(runs, path):
    """Writes the HTML page of one `Run` or several, finished or not."""
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    write_text(path, report_page([describe_run(run) for run in runs], now))


def describe_run(run):
    """Reads what the page shows of a run."""
    config = run.config()
    training, starts = config.training, run.starts()
    return RunRecord(
        name=run.path.resolve().name,
        steps=training.steps,
        images_per_step=training.images_per_step,
        metrics=run.read_metrics(),
        config=[(key, as_yaml(value)) for key, value in flat_fields(config)],
        environment=starts[-1] if starts else None,
        starts=len(starts),
        samples=_by_step(run.samples_path),
        attention=_by_step(run.attention_path),
        contact_sheet=run.contact_sheet_path if run.contact_sheet_path.is_file() else None,
    )


def _by_step(folder):
    matches = ((re.fullmatch(r"step_([0-9]+)\.png", path.name), path) for path in sorted(folder.glob("step_*.png")))
    return {int(match[1]): path for match, path in matches if match}
