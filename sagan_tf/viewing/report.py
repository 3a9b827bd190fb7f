"""The HTML page of one run, or of several side by side: curves, samples, attention, data and config in one file."""

import base64
import functools
import math
import os
import warnings
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from sagan_tf.viewing.image_files import encode
from sagan_tf.viewing.page_files import fill_page

MAX_POINTS = 1000  # per curve; more than a screen shows
MAX_IMAGES = 24  # per slider
_IMAGE_PX, _CONTACT_SHEET_PX = 1024, 1600  # longest side
_WEBP_QUALITY = 82
_LARGEST = 1e300  # of values that are drawn; their sums stay finite


@dataclass(frozen=True)
class RunRecord:
    """What the report shows of a run.

    Args:
        name: str.
        steps: int >= 1, of the complete run.
        images_per_step: int >= 1.
        metrics: list of dicts in the order of the steps, as in the metrics file.
        config: list of (full path of a field, value as in YAML).
        environment: dict, name -> value, what the run was last started on; None if it is not known.
        starts: int, how often the run was started or resumed.
        step: int, of the generator; metrics may end before it.
        samples, attention: dicts, step -> path of a PNG file.
        contact_sheet: Path of a PNG file, or None.
        commands: Lines for a shell, how the run was started, then what reads it; and Python that loads it.
        class_names: Names of the classes in the order of their labels; empty if they are not known.
        evaluations: list of dicts: `title`, `figures` and `how` (rows), `pictures` (paths).
    """

    name: str
    steps: int
    images_per_step: int
    metrics: list
    config: list
    environment: dict | None = None
    starts: int = 0
    step: int = 0
    samples: dict = field(default_factory=dict)
    attention: dict = field(default_factory=dict)
    contact_sheet: str | os.PathLike | None = None
    commands: tuple = ()
    class_names: tuple = ()
    evaluations: list = field(default_factory=list)


def report_page(records, written_at):
    """Returns the HTML page, a str, of one or more `RunRecord`s; `written_at` is its date and time, a str."""
    data = {
        "written_at": written_at,
        "differences": differing_fields(records),
        "runs": [_run_data(record) for record in records],
    }
    return fill_page("report.html", data)


def differing_fields(records):
    """Returns [path of the field, one value per run] for each config field that differs, except the run folder."""
    configs = [dict(record.config) for record in records]
    rows = [[key, [config.get(key) for config in configs]] for key in configs[0] if key != "run"]
    return [[key, values] for key, values in rows if any(value != values[0] for value in values)]


def curves(metrics, max_points=MAX_POINTS):
    """Returns name -> (steps, values) of finite values; neighbors are averaged in curves above `max_points`."""
    points = {}
    for line in metrics:
        for name, value in line.items():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST
            if name != "step" and is_number:
                points.setdefault(name, []).append((line["step"], float(value)))
    return {name: _thin(*zip(*pairs), max_points) for name, pairs in points.items()}


def _thin(steps, values, max_points):
    if len(steps) > max_points:
        bounds = np.linspace(0, len(steps), max_points + 1).astype(int)
        values = np.add.reduceat(np.array(values), bounds[:-1]) / np.diff(bounds)
        steps = [steps[end - 1] for end in bounds[1:]]
    return list(steps), [float(f"{value:.5g}") for value in values]


def select_steps(steps):
    """Selects up to `MAX_IMAGES` steps evenly, including the first and the last; returns them in ascending order."""
    steps = sorted(steps)
    if len(steps) <= MAX_IMAGES:
        return steps
    return [steps[round(i * (len(steps) - 1) / (MAX_IMAGES - 1))] for i in range(MAX_IMAGES)]


def _run_data(record):
    last = record.metrics[-1] if record.metrics else {}
    speeds = [line["images_per_second"] for line in record.metrics if line.get("images_per_second")]
    step, speed = max(record.step, last.get("step", 0)), float(np.median(speeds[-20:])) if speeds else None
    seconds_left = (record.steps - step) * record.images_per_step / speed if speed else None
    if seconds_left is not None and not math.isfinite(seconds_left):
        seconds_left = None  # at an implausible speed
    return {
        "name": record.name,
        "step": step,
        "steps": record.steps,
        "images": max(last.get("images") or 0, step * record.images_per_step),
        "speed": speed,
        "seconds_left": seconds_left if step < record.steps else 0,
        "curves": curves(record.metrics),
        "config": record.config,
        "environment": _environment_rows(record.environment or {}),
        "starts": record.starts,
        "commands": record.commands,
        "class_names": record.class_names,
        "evaluations": [
            evaluation | {"pictures": _data_urls(evaluation["pictures"])} for evaluation in record.evaluations
        ],
        "samples": _image_series(record.samples),
        "attention": _image_series(record.attention),
        "sheet": None if record.contact_sheet is None else _data_url(record.contact_sheet, _CONTACT_SHEET_PX),
    }


def _environment_rows(environment):
    rows = []
    for name, value in environment.items():
        if isinstance(value, list):
            value = ", ".join(map(str, value)) or "none"
        rows.append([name.replace("_", " "), str(value)])
    return rows


def _data_urls(paths):
    return [url for path in paths if (url := _data_url(path, _IMAGE_PX))]


def _image_series(paths):
    series = [{"step": step, "src": _data_url(paths[step], _IMAGE_PX)} for step in select_steps(paths)]
    return [picture for picture in series if picture["src"]]


def _data_url(path, max_px):
    """Returns an image as a data URL, or None if it cannot be read, for example while a run replaces it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _webp_url(os.fspath(path), os.stat(path).st_mtime_ns, max_px)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombWarning, Image.DecompressionBombError):
        return None  # Pillow raises all of these for invalid files.


@functools.lru_cache(maxsize=4 * MAX_IMAGES)  # A running training rewrites its page many times.
def _webp_url(path, modified_ns, max_px):
    with Image.open(path, formats=["PNG"]) as file:
        picture = file.convert("RGB")
    if max(picture.size) > max_px:
        picture.thumbnail((max_px, max_px), Image.Resampling.LANCZOS)
    data = encode(picture, "WEBP", quality=_WEBP_QUALITY, method=2)
    return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")
