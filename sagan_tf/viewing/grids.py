"""Many pictures in one: sample grids and captioned contact sheets, as PNG files."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sagan_tf.files.atomic import write_beside
from sagan_tf.generation.pixels import to_levels

_BACKGROUND = (250, 250, 248)
_INK = (40, 40, 40)
_MARGIN = 12  # px around a contact sheet
_GAP = 6  # px between its pictures
_SMALLEST = 64  # px: smaller pictures are enlarged for the eye


def save_grid(images, path, columns, scale=None):
    """Writes pictures side by side as one PNG file, which appears only when it is complete.

    Args:
        images: (N, H, W, C), C 1 or 3, as for `to_levels`.
        path: Of the file; its folder is made.
        columns: int >= 1, pictures a row; the last row may be shorter.
        scale: int >= 1, pixels a pixel; None: as many as make a picture at least 64 px high.

    Raises:
        ValueError: There is no picture, `columns` is below 1, or C is neither 1 nor 3.
    """
    images = _checked(images, columns)
    count, height, width, _ = images.shape
    scale = scale or max(1, -(-_SMALLEST // height))
    rows = -(-count // columns)
    canvas = np.full((rows * height, columns * width, 3), _BACKGROUND, np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * height, i % columns * width
        canvas[top : top + height, left : left + width] = image
    size = (columns * width * scale, rows * height * scale)
    _write(Image.fromarray(canvas).resize(size, Image.Resampling.NEAREST), path)


def save_contact_sheet(images, captions, path, columns, title):
    """Writes pictures with a caption below each, and a title, as one PNG file.

    Args:
        images: (N, H, W, C), C 1 or 3, as for `to_levels`.
        captions: N strings; what does not fit below a picture is cut.
        path: Of the file; its folder is made.
        columns: int >= 1, pictures a row.
        title: str.

    Raises:
        ValueError: As for `save_grid`, or there are not as many captions as pictures.
    """
    images = _checked(images, columns)
    if len(captions) != len(images):
        raise ValueError(f"`captions` must be as many as images. Received: {len(captions)} for {len(images)} images.")
    side = images.shape[1] * max(1, -(-_SMALLEST // images.shape[1]))
    line, font = 14, ImageFont.load_default(11)
    cell_width, cell_height = side + _GAP, side + line + _GAP
    columns = min(columns, len(images))
    size = (2 * _MARGIN + columns * cell_width, 2 * _MARGIN + 24 + -(-len(images) // columns) * cell_height)
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 2), title, _INK, ImageFont.load_default(15))
    for i, (image, caption) in enumerate(zip(images, captions)):
        left, top = _MARGIN + i % columns * cell_width, _MARGIN + 24 + i // columns * cell_height
        sheet.paste(Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST), (left, top))
        draw.text((left, top + side), _fitting(caption, side, font), _INK, font)
    _write(sheet, path)


def _checked(images, columns):
    images = to_levels(images)
    if images.ndim != 4 or not len(images) or images.shape[-1] not in (1, 3) or columns < 1:
        raise ValueError(
            "`images` must be (N, H, W, 1 or 3) with N >= 1, and `columns` >= 1. "
            f"Received: images of shape {images.shape}, {columns=}."
        )
    return np.broadcast_to(images, (*images.shape[:3], 3)) if images.shape[-1] == 1 else images


def _fitting(caption, width, font):
    if font.getlength(caption) <= width:
        return caption
    while caption and font.getlength(caption + "...") > width:
        caption = caption[:-1]
    return caption + "..."


def _write(picture, path):
    write_beside(path, lambda file: picture.save(file, format="PNG"))
