"""Line charts side by side, with the value at each point; Pillow."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from sagan_tf.viewing.image_grids import BACKGROUND, FAINT, INK
from sagan_tf.viewing.text import TextFont

_WIDTH, _HEIGHT, _GAP, _MARGIN, _PADDING = 640, 320, 60, 40, 48  # px
_TITLE_HEIGHT, _LABEL_HEIGHT, _RADIUS = 56, 36, 6
_LINE, _BAR = (42, 98, 160), (170, 192, 217)


@dataclass(frozen=True)
class LineChart:
    """Values of one quantity.

    Args:
        title: str.
        labels: One str per point, in equal distances below the axis.
        values: One float per point; those that are not finite are left out.
        errors: One float per point, drawn as a bar to either side of it, or None without.
    """

    title: str
    labels: tuple
    values: tuple
    errors: tuple | None = None

    def __post_init__(self):
        counts = {len(self.labels), len(self.values), len(self.labels if self.errors is None else self.errors)}
        if not self.labels or len(counts) > 1:
            received = f"{self.labels=}, {self.values=}, {self.errors=}"
            raise ValueError(f"There must be one label, and one error or none, per value. Received: {received}.")


def draw_charts(charts, title):
    """Draws `LineChart`s side by side, each from its smallest to its largest value or error bar: PIL.Image in RGB."""
    top = _MARGIN + 2 * _TITLE_HEIGHT
    width = 2 * _MARGIN + len(charts) * (_WIDTH + _GAP) - _GAP
    canvas = Image.new("RGB", (width, top + _HEIGHT + _LABEL_HEIGHT + _MARGIN), BACKGROUND)
    draw, title_font, font = ImageDraw.Draw(canvas), TextFont(28), TextFont(22)
    title_font.draw(draw, (_MARGIN, _MARGIN), title, INK)
    for i, chart in enumerate(charts):
        left = _MARGIN + i * (_WIDTH + _GAP)
        font.draw(draw, (left, _MARGIN + _TITLE_HEIGHT), chart.title, INK)
        _draw_chart(draw, font, chart, left, top)
    return canvas


def _draw_chart(draw, font, chart, left, top):
    bottom = top + _HEIGHT
    draw.line([(left, bottom), (left + _WIDTH, bottom)], FAINT, 2)
    columns = np.linspace(left + _PADDING, left + _WIDTH - _PADDING, len(chart.labels))
    values, errors = np.asarray(chart.values, float), np.nan_to_num(np.asarray(chart.errors or 0.0, float))
    finite = np.isfinite(values)
    ends = np.stack([values - errors, values, values + errors])
    low, high = (ends[:, finite].min(), ends[:, finite].max()) if finite.any() else (0.0, 1.0)
    heights = (ends - low) / (high - low) if high > low else np.where(finite, 0.5, np.nan * ends)
    lowest, rows, highest = bottom - _PADDING - heights * (_HEIGHT - 2 * _PADDING)
    points = list(zip(columns, rows))
    for (x, _), start, end in zip(points, lowest, highest):
        if start > end:
            draw.line([(x, start), (x, end)], _BAR, 3)
    for x, label in zip(columns, chart.labels):
        font.draw(draw, (x, bottom + _LABEL_HEIGHT / 2), label, FAINT, anchor="mm")
    draw.line([point for point, shown in zip(points, finite) if shown], _LINE, 4, joint="curve")
    for (x, y), value in zip(points, values):
        if np.isfinite(value):
            draw.ellipse([x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS], _LINE)
            font.draw(draw, (x, y - _PADDING / 2), f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}", INK, "mm")
