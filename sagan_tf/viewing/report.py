"""The page of a run, or of several side by side: curves, samples by step, attention, data, config; one HTML file."""

import base64
import functools
import io
import math
import os
import warnings
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from sagan_tf.viewing.page_files import fill_page

MAX_POINTS = 1000  # Of a curve; more than a screen shows.
MAX_PICTURES = 24  # By step; the first, the last, and evenly between.
MAX_SIDE = 1024  # px of a picture in the page
_QUALITY = 82


@dataclass(frozen=True)
class RunRecord:
    """What a page tells of a run.

    Args:
        name: str.
        steps: int, of the whole run.
        images_a_step: int, real images that a step takes.
        metrics: list of dicts by step, as in the metrics file.
        config: list of (path of the field, value as YAML writes it).
        environment: dict of JSON values, or None.
        starts: int, how often the run was started.
        samples: dict, step -> path of a PNG file.
        attention: dict, step -> path of a PNG file.
        contact_sheet: Path of a PNG file, or None.
    """

    name: str
    steps: int
    images_a_step: int
    metrics: list
    config: list
    environment: dict | None = None
    starts: int = 0
    samples: dict = field(default_factory=dict)
    attention: dict = field(default_factory=dict)
    contact_sheet: object = None


def report_page(records, written_at):
    """Makes the page.

    Args:
        records: `RunRecord`s, one or more; several are laid side by side, the differences of their configs first.
        written_at: str, when.

    Returns:
        str, HTML that needs nothing else.
    """
    data = {
        "written_at": written_at,
        "differences": differences(records),
        "runs": [_run(record) for record in records],
    }
    return fill_page("report.html", data)


def differences(records):
    """Finds the config fields in which runs differ.

    Args:
        records: `RunRecord`s.

    Returns:
        list of [path of the field, value of each run], without the run folder's name.
    """
    found = []
    for key, _ in records[0].config:
        values = [dict(record.config).get(key) for record in records]
        if key != "run" and any(value != values[0] for value in values):
            found.append([key, values])
    return found


def curves(metrics, most=MAX_POINTS):
    """Turns lines of metrics into columns short enough to draw.

    Where there are too many lines, neighbours are averaged; a value that only some lines hold keeps each of its points
    as long as there are no more than fit.

    Args:
        metrics: list of dicts with `step`, ascending.
        most: int >= 1, points of a curve.

    Returns:
        dict, name -> (steps, values): lists of ints and floats; values that are not finite are left out.
    """
    found = {}
    for line in metrics:
        for name, value in line.items():
            good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if name != "step" and good:
                found.setdefault(name, ([], []))
                found[name][0].append(line["step"])
                found[name][1].append(float(value))
    return {name: _thinned(*curve, most) for name, curve in found.items()}


def picked_steps(steps, most=MAX_PICTURES):
    """Picks steps evenly, the first and the last among them.

    Args:
        steps: ints.
        most: int >= 2.

    Returns:
        list of ints, ascending.
    """
    steps = sorted(steps)
    if len(steps) <= most:
        return steps
    return [steps[round(i * (len(steps) - 1) / (most - 1))] for i in range(most)]


def _thinned(steps, values, most):
    if len(steps) > most:
        bounds = np.linspace(0, len(steps), most + 1).astype(int)
        values = np.add.reduceat(np.array(values), bounds[:-1]) / np.diff(bounds)
        steps = [steps[end - 1] for end in bounds[1:]]
    return steps, [float(f"{value:.5g}") for value in values]


def _run(record):
    last = record.metrics[-1] if record.metrics else {}
    speeds = [line["images_per_second"] for line in record.metrics if line.get("images_per_second")]
    step, speed = last.get("step", 0), float(np.median(speeds[-20:])) if speeds else None
    left = (record.steps - step) * record.images_a_step / speed if speed else None
    return {
        "name": record.name,
        "step": step,
        "steps": record.steps,
        "images": last.get("images", 0),
        "speed": speed,
        "seconds_left": left if step < record.steps else 0,
        "curves": curves(record.metrics),
        "config": [list(pair) for pair in record.config],
        "environment": _plain(record.environment or {}),
        "starts": record.starts,
        "samples": _pictures(record.samples),
        "attention": _pictures(record.attention),
        "sheet": None if record.contact_sheet is None else _picture(record.contact_sheet, 1600),
    }


def _plain(environment):
    """(name, text) of an environment, for a table."""
    texts = []
    for name, value in environment.items():
        if isinstance(value, list):
            value = (" " if name == "command" else ", ").join(map(str, value)) or "none"
        texts.append([name.replace("_", " "), str(value)])
    return texts


def _pictures(paths):
    found = [{"step": step, "src": _picture(paths[step])} for step in picked_steps(paths)]
    return [each for each in found if each["src"]]


def _picture(path, side=MAX_SIDE):
    """A picture as a data URL, or None where it cannot be read (as when a run has just replaced it)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _encoded(os.fspath(path), os.stat(path).st_mtime_ns, side)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombWarning, Image.DecompressionBombError):
        return None  # Pillow says all of these to what is no picture.


@functools.lru_cache(maxsize=4 * MAX_PICTURES)  # A page is written anew and anew while a run goes on.
def _encoded(path, changed_at, side):
    with Image.open(path) as file:
        picture = file.convert("RGB")
    if max(picture.size) > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=_QUALITY, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
