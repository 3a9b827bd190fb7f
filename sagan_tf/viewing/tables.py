"""Pictures in rows and columns with titles, and moving ones; Pillow."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sagan_tf.files.atomic import write_beside
from sagan_tf.generation.pixels import to_levels

BACKGROUND, INK, FAINT = (250, 250, 248), (40, 40, 40), (120, 120, 116)
_MARGIN, _GAP, _ROW_GAP, _LINE = 16, 2, 6, 20  # px
_SMALLEST = 96  # px: smaller pictures are enlarged for the eye


@dataclass(frozen=True)
class Table:
    """Pictures in rows and columns.

    Args:
        images: (rows, columns, H, W, C), as for `grids.to_levels`, C 1 or 3.
        row_titles: A str a row.
        column_titles: A str a column, or empty.
        title: str.
    """

    images: np.ndarray
    row_titles: tuple
    column_titles: tuple = ()
    title: str = ""

    def __post_init__(self):
        shape = np.shape(self.images)
        good = len(shape) == 5 and shape[-1] in (1, 3) and min(shape) >= 1 and len(self.row_titles) == shape[0]
        if not good or len(self.column_titles) not in (0, shape[1]):
            raise ValueError(
                "`images` must be (rows, columns, H, W, 1 or 3), with a title a row and none or a title a column. "
                f"Received: images of shape {shape}, {self.row_titles=}, {self.column_titles=}."
            )


def draw_table(table):
    """Draws a table.

    Args:
        table: `Table`.

    Returns:
        PIL.Image.Image, RGB.
    """
    images = to_levels(table.images)
    images = np.broadcast_to(images, (*images.shape[:-1], 3))
    rows, columns, height, width, _ = images.shape
    scale = max(1, -(-_SMALLEST // height))
    height, width = height * scale, width * scale
    font, large = ImageFont.load_default(13), ImageFont.load_default(16)
    left = _MARGIN + max([0] + [int(font.getlength(title)) + 12 for title in table.row_titles if title])
    top = _MARGIN + (28 if table.title else 0) + (_LINE if table.column_titles else 0)
    wide = max(left + columns * (width + _GAP) - _GAP, _MARGIN + int(large.getlength(table.title)))
    size = (wide + _MARGIN, top + rows * (height + _ROW_GAP) - _ROW_GAP + _MARGIN)
    canvas = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN, _MARGIN - 4), table.title, INK, large)
    for column, title in enumerate(table.column_titles):
        centre = left + column * (width + _GAP) + width / 2
        draw.text((centre, top - _LINE / 2), title, FAINT, font, anchor="mm")
    for row in range(rows):
        y = top + row * (height + _ROW_GAP)
        draw.text((_MARGIN, y + height / 2), table.row_titles[row], INK, font, anchor="lm")
        for column in range(columns):
            picture = Image.fromarray(images[row, column]).resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(picture, (left + column * (width + _GAP), y))
    return canvas


def save_table(table, path):
    """Writes a table as a PNG file, which appears only when it is complete.

    Args:
        table: `Table`.
        path: Of the file; its folder is made.
    """
    picture = draw_table(table)
    write_beside(path, lambda file: picture.save(file, format="PNG"))


def save_picture(image, path):
    """Writes one picture, pixel by pixel, as a PNG file, which appears only when it is complete.

    Args:
        image: (H, W, C), as for `grids.to_levels`, C 1 or 3.
        path: Of the file; its folder is made.
    """
    levels = to_levels(image)
    picture = Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)
    write_beside(path, lambda file: picture.save(file, format="PNG", optimize=True))


def save_animation(tables, path, frame_seconds=0.05):
    """Writes tables one after the other as an endless animation, which appears only when it is complete.

    Args:
        tables: `Table`s of one shape, two or more.
        path: Ends in `.gif` or `.webp`; its folder is made.
        frame_seconds: float, how long a table stands; GIF knows hundredths.

    Raises:
        ValueError: The path ends otherwise, or there is but one table.
    """
    kind = str(path).rpartition(".")[2].upper()
    if kind not in ("GIF", "WEBP") or len(tables) < 2:
        raise ValueError(f"`path` must end in .gif or .webp, with 2 tables or more. Received: {path}, {len(tables)}.")
    frames = [draw_table(table) for table in tables]
    if kind == "GIF":
        # One palette for all, or colours flicker from frame to frame.
        palette = _common_palette(frames)
        frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    options = {"quality": 90} if kind == "WEBP" else {"optimize": False, "disposal": 1}

    def write(file):
        frames[0].save(
            file, format=kind, save_all=True, append_images=frames[1:], duration=round(frame_seconds * 1000), loop=0,
            **options,
        )

    write_beside(path, write)


def _common_palette(frames):
    some = frames[:: max(1, len(frames) // 8)]
    together = Image.new("RGB", (some[0].width, sum(frame.height for frame in some)))
    for i, frame in enumerate(some):
        together.paste(frame, (0, i * frame.height))
    return together.quantize(256, method=Image.Quantize.MEDIANCUT)
