"""Attention drawn as in the paper: an image with query points, and the heat map of each; Pillow."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sagan_tf.generation.pixels import to_levels
from sagan_tf.viewing.heat_map import STANDS_OUT, add_caption, largest_share, overlay, strongest_region
from sagan_tf.viewing.image_files import save_png
from sagan_tf.viewing.image_grids import BACKGROUND, FAINT, GridStyle, draw_grid
from sagan_tf.viewing.query_points import choose_points

# Colors that the color-blind can distinguish, and that stand out in most images.
COLORS = ((230, 60, 50), (60, 200, 80), (60, 140, 255), (250, 200, 40), (220, 90, 230), (40, 210, 210))
_CELL = 160  # px: the smaller side of a cell, or that of the image if it is larger
_GAP = 4  # px between the cells of a row
_NOTE_HEIGHT = 17  # px below each map
_STYLE = GridStyle(
    margins=(16, 16, 20, 16),
    gaps=(20, 10),
    title_top=14,
    title_height=30,
    caption_height=18,
    caption_color=FAINT,
    captions_above=True,
)
_FINE = 4  # Marks are drawn at this factor and reduced, for smooth edges.
_POINTS = 5  # per image, as in the paper


@dataclass(frozen=True)
class Row:
    """An image, as for `to_levels`, with query points (row, column) in a feature map and the map (h, w) of each."""

    image: np.ndarray
    points: tuple
    query_shape: tuple
    maps: np.ndarray
    title: str = ""


def make_row(maps, i, image, points=None, title=""):
    """Makes the `Row` of image `i` of `AttentionMaps`; `points` None chooses five by `choose_points`."""
    if points is None:
        points = choose_points(maps.features[i], image, min(_POINTS, maps.scores.shape[1]))
    return Row(
        image, tuple(points), tuple(maps.query_shape), np.stack([maps.map_of(i, point) for point in points]), title
    )


def draw_rows(rows, title, columns=1):
    """Draws images with their query points and, for each point, its map with an arrow to its strongest region.

    A color bar and a caption below explain scale and marks. A map without a region that stands out has no arrow.

    Args:
        rows: List of one `Row` or more, of images of one shape.
        title: str.
        columns: int >= 1, rows side by side.

    Returns:
        PIL.Image in RGB.

    Source: Zhang et al. 2019, Figures 1 (one column) and 5 (several).
    """
    height, width = rows[0].image.shape[:2]
    scale = max(_CELL / min(height, width), 1)
    size = (round(width * scale), round(height * scale))
    captions = [row.title for row in rows] if any(row.title for row in rows) else ()
    picture = draw_grid([_draw_strip(row, size) for row in rows], min(columns, len(rows)), _STYLE, title, captions)
    grids = dict.fromkeys((row.query_shape, row.maps.shape[1:]) for row in rows)
    return add_caption(picture, *zip(*grids))


def save_rows(rows, path, title, columns=1):
    """Writes `draw_rows` as a PNG file, atomically; creates the folder."""
    save_png(draw_rows(rows, title, columns), path)


def _draw_strip(row, size):
    """The image with its query points, then one map per point with a note below: (height, width, 3) uint8.

    `size` is the (width, height) of a cell in px.
    """
    cells = [_with_points(row, size)] + [_with_map(row, k, size) for k in range(len(row.points))]
    width, height = size
    strip = Image.new("RGB", (len(cells) * (width + _GAP), height + _NOTE_HEIGHT), BACKGROUND)
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(12)
    for k, cell in enumerate(cells):
        # The gap after the image is twice as wide as that between maps.
        left = k * (width + _GAP) + (_GAP if k else 0)
        strip.paste(cell, (left, 0))
        if k:
            draw.text((left, height + 2), largest_share(row.maps[k - 1]), FAINT, font)
    return np.asarray(strip)


def _enlarged(image, size):
    levels = to_levels(image)
    levels = np.broadcast_to(levels, (*levels.shape[:2], 3))
    exact = size[1] % levels.shape[0] == size[0] % levels.shape[1] == 0
    return Image.fromarray(np.ascontiguousarray(levels)).resize(
        size, Image.Resampling.NEAREST if exact else Image.Resampling.BICUBIC
    )


def _position(row, k, size):
    """(x, y) of point k in px."""
    (y, x), (height, width) = row.points[k], row.query_shape
    return np.array([(x + 0.5) / width, (y + 0.5) / height]) * size


def _with_points(row, size):
    def draw(pen, scale):
        for k in range(len(row.points)):
            _dot(pen, _position(row, k, size) * scale, COLORS[k % len(COLORS)], 6 * scale, scale)

    return _draw_marks(_enlarged(row.image, size), draw)


def _with_map(row, k, size):
    color = COLORS[k % len(COLORS)]
    start = _position(row, k, size)
    y, x, contrast = strongest_region(row.maps[k])
    end = np.array([x, y]) * size

    def draw(pen, scale):
        if contrast >= STANDS_OUT:
            if np.hypot(*(end - start)) > 16:
                _arrow(pen, start * scale, end * scale, color, scale)
            else:  # The point attends to itself; an arrow would be too short.
                _ring(pen, end * scale, color, scale)
        _dot(pen, start * scale, color, 4.5 * scale, scale)

    return _draw_marks(overlay(_enlarged(row.image, size), row.maps[k]), draw)


def _draw_marks(picture, draw):
    fine = Image.new("RGBA", (picture.width * _FINE, picture.height * _FINE), (0, 0, 0, 0))
    draw(ImageDraw.Draw(fine), _FINE)
    # With premultiplied alpha, transparent black does not bleed into the edges.
    marks = fine.convert("RGBa").resize(picture.size, Image.Resampling.BOX).convert("RGBA")
    picture = picture.convert("RGBA")
    picture.alpha_composite(marks)
    return picture.convert("RGB")


def _dot(pen, center, color, radius, scale):
    for outline, fill in ((1.5 * scale, (0, 0, 0, 200)), (0.9 * scale, (255, 255, 255, 255)), (0, (*color, 255))):
        pen.ellipse([*(center - radius - outline), *(center + radius + outline)], fill=fill)


def _ring(pen, center, color, scale):
    for radius, width, fill in ((14, 5, (0, 0, 0, 160)), (13, 3, (*color, 255))):
        pen.ellipse([*(center - radius * scale), *(center + radius * scale)], outline=fill, width=width * scale)


def _arrow(pen, start, end, color, scale):
    direction = (end - start) / np.hypot(*(end - start))
    normal = np.array([-direction[1], direction[0]])
    for outline, fill in ((1.2 * scale, (0, 0, 0, 160)), (0, (*color, 255))):
        neck = end - direction * 11 * scale
        half = 1.4 * scale + outline
        shaft = [start - normal * half, start + normal * half, neck + normal * half, neck - normal * half]
        back, side = neck - direction * outline, normal * (6 * scale + 1.8 * outline)
        head = [end + direction * 2 * outline, back + side, back - side]
        for corners in (shaft, head):
            pen.polygon([tuple(corner) for corner in corners], fill=fill)
