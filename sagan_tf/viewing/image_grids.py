"""Images in rows and columns, with titles and captions: sample grids, contact sheets and tables; Pillow."""

import bisect
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from sagan_tf.viewing.image_files import save_png, to_pil
from sagan_tf.viewing.text import TextFont

BACKGROUND, INK, FAINT = (250, 250, 248), (40, 40, 40), (120, 120, 116)
_COLUMN_TITLE_HEIGHT, _ROW_TITLE_GAP, _MAX_ROW_TITLE_WIDTH = 20, 12, 320  # px
_MAX_LETTERS = 400  # of a title that may fit


@dataclass(frozen=True)
class GridStyle:
    """Distances and font sizes of a grid, in px."""

    min_height: int = 1  # Smaller images are enlarged by a whole factor.
    margins: tuple = (0, 0, 0, 0)  # left, top, right, bottom
    gaps: tuple = (0, 0)  # between columns, between rows
    title_top: int = 0
    title_height: int = 0  # reserved for the title
    title_size: int = 16  # font
    caption_height: int = 0  # reserved for the caption of each image
    caption_size: int = 13  # font
    caption_color: tuple = INK
    captions_above: bool = False  # or below the images


_SAMPLE_GRID = GridStyle(min_height=64)
_TITLED_SAMPLE_GRID = GridStyle(min_height=64, margins=(8, 0, 0, 0))
_CONTACT_SHEET = GridStyle(
    min_height=64,
    margins=(12, 12, 18, 18),
    gaps=(6, 6),
    title_top=10,
    title_height=24,
    title_size=15,
    caption_height=14,
    caption_size=11,
)
_TABLE = GridStyle(min_height=96, margins=(16, 16, 16, 16), gaps=(2, 6), title_top=12, title_height=28)


@dataclass(frozen=True)
class Table:
    """Images in rows and columns with titles.

    Args:
        images: (rows, columns, H, W, 1 or 3), as for `to_levels`.
        row_titles: One str per row.
        column_titles: One str per column, or empty.
        title: str.
    """

    images: np.ndarray
    row_titles: tuple
    column_titles: tuple = ()
    title: str = ""

    def __post_init__(self):
        shape = np.shape(self.images)
        valid = len(shape) == 5 and min(shape) >= 1 and len(self.row_titles) == shape[0]
        if not valid or len(self.column_titles) not in (0, shape[1]):
            raise ValueError(
                "`images` must be (rows, columns, H, W, 1 or 3), with one title per row and one or none per column. "
                f"Received: images of shape {shape}, {self.row_titles=}, {self.column_titles=}."
            )


def draw_grid(images, columns, style, title="", captions=(), row_titles=(), column_titles=()):
    """Draws images row by row.

    Args:
        images: (N, H, W, 1 or 3), as for `to_levels`, N >= 1.
        columns: int >= 1.
        style: `GridStyle`.
        title: str.
        captions: N str, one per image; or none.
        row_titles, column_titles: str, one per row or column; or none.

    Returns:
        PIL.Image in RGB.

    Raises:
        ValueError: `images` or `columns` is out of its range, or there are captions for some of the images only.
    """
    images = np.asarray(images)
    _check(images, columns, captions)
    scale = -(-style.min_height // images.shape[1])
    height, width = images.shape[1] * scale, images.shape[2] * scale
    font, title_font, caption_font = map(TextFont, (13, style.title_size, style.caption_size))
    row_titles = [_cut(text, _MAX_ROW_TITLE_WIDTH, font) for text in row_titles]
    margin, top, right, bottom = style.margins
    left = margin + max([0, *(int(font.getlength(text)) + _ROW_TITLE_GAP for text in row_titles if text)])
    top += (style.title_height if title else 0) + (_COLUMN_TITLE_HEIGHT if column_titles else 0)
    caption_height = style.caption_height if captions else 0
    x_step, y_step = width + style.gaps[0], height + caption_height + style.gaps[1]
    rows = -(-len(images) // columns)
    size = (
        max(left + columns * x_step - style.gaps[0] + right, 2 * margin + int(title_font.getlength(title))),
        top + rows * y_step - style.gaps[1] + bottom,
    )
    canvas = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    title_font.draw(draw, (margin, style.title_top), title, INK)
    for column, text in enumerate(column_titles):
        center = left + column * x_step + width / 2
        font.draw(draw, (center, top - _COLUMN_TITLE_HEIGHT / 2), text, FAINT, anchor="mm")
    for row, text in enumerate(row_titles):
        font.draw(draw, (margin, top + row * y_step + height / 2), text, INK, anchor="lm")
    for i, image in enumerate(images):
        x, y = left + i % columns * x_step, top + i // columns * y_step
        picture = to_pil(image).resize((width, height), Image.Resampling.NEAREST)
        canvas.paste(picture, (x, y + (caption_height if style.captions_above else 0)))
        if captions:
            text = _cut(captions[i], width, caption_font)
            caption_font.draw(draw, (x, y if style.captions_above else y + height), text, style.caption_color)
    return canvas


def save_grid(images, path, columns, row_titles=()):
    """Writes images side by side as a PNG file; arguments as for `draw_grid`."""
    style = _TITLED_SAMPLE_GRID if any(row_titles) else _SAMPLE_GRID
    save_png(draw_grid(images, columns, style, row_titles=row_titles), path)


def save_contact_sheet(images, captions, path, columns, title):
    """Writes images with a caption below each as a PNG file; arguments as for `draw_grid`."""
    save_png(draw_grid(images, min(columns, len(images)), _CONTACT_SHEET, title, captions), path)


def draw_table(table):
    """Draws a `Table` as a PIL.Image, RGB."""
    images = np.asarray(table.images)
    titles = {"title": table.title, "row_titles": table.row_titles, "column_titles": table.column_titles}
    return draw_grid(images.reshape(-1, *images.shape[2:]), images.shape[1], _TABLE, **titles)


def save_table(table, path):
    """Writes a `Table` as a PNG file."""
    save_png(draw_table(table), path)


def _check(images, columns, captions):
    shape = images.shape
    if len(shape) != 4 or not shape[0] or shape[-1] not in (1, 3) or columns < 1:
        raise ValueError(
            "`images` must be (N, H, W, 1 or 3) with N >= 1, and `columns` >= 1. "
            f"Received: images of shape {shape}, {columns=}."
        )
    if captions and len(captions) != shape[0]:
        raise ValueError(f"`captions` must have one str per image. Received: {len(captions)} for {shape[0]} images.")


def _cut(text, width, font):
    if len(text) <= _MAX_LETTERS and font.getlength(text) <= width:
        return text
    # A name may be of any length, and each measurement looks at all letters.
    length = bisect.bisect_left(range(_MAX_LETTERS), True, key=lambda n: font.getlength(text[: n + 1] + "...") > width)
    return text[:length] + "..."
