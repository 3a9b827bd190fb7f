"""The page of one run or several."""

from pathlib import Path

from sagan_tf.errors import UserError
from sagan_tf.runs.folder import Run
from sagan_tf.runs.report import write_report


def report(options):
    """Writes the report page of `ReportOptions` and returns its path."""
    runs = [Run.open(folder) for folder in options.runs]
    own_path = runs[0].output_path / runs[0].report_path.name
    path = options.out or (own_path if len(runs) == 1 else Path("comparison.html"))
    if path.is_dir():
        raise UserError(f"--out: {path} is a folder. Name a file.")
    write_report(runs, path)
    return path
