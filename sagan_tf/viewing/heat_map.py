"""Attention maps as heat maps over images, and the figure caption that explains them; Pillow."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from sagan_tf.viewing.image_grids import BACKGROUND, FAINT, INK

# Matplotlib's `inferno` (CC0) from no attention to the most; its lightness rises evenly.
STOPS = (
    (0, 0, 4),
    (31, 12, 72),
    (87, 16, 110),
    (137, 34, 106),
    (188, 55, 84),
    (227, 89, 51),
    (249, 142, 9),
    (249, 203, 53),
    (252, 255, 164),
)
OPACITY = 0.55  # of the colors over the image
STANDS_OUT = 1.5  # times the attention that a uniform map gives the same keys
DARKEST = 64  # level of the image's darkest pixel under the colors, so that dark images remain visible
_BAR_WIDTH, _BAR_HEIGHT, _LINE_HEIGHT, _MARGIN = 220, 12, 17, 16  # px


def colors(levels):
    """Maps levels in [0, 1] to colors (..., 3), float, in 0 .. 255."""
    places = np.linspace(0, 1, len(STOPS))
    return np.stack([np.interp(levels, places, channel) for channel in zip(*STOPS)], -1)


def overlay(picture, map_):
    """Covers an RGB image, in gray, with the colors of a map (h, w) relative to its maximum."""
    level = Image.fromarray((np.asarray(map_) / max(np.max(map_), 1e-12)).astype(np.float32))
    level = np.asarray(level.resize(picture.size, Image.Resampling.BILINEAR))
    gray = np.asarray(ImageOps.autocontrast(picture.convert("L"), cutoff=1), np.float32)[..., None]
    gray = DARKEST + (1 - DARKEST / 255) * gray
    return Image.fromarray(np.rint((1 - OPACITY) * gray + OPACITY * colors(level)).astype(np.uint8))


def strongest_region(map_):
    """Finds the 3x3 keys with the most attention, or the strongest key of a map of at most 4x4 keys.

    Returns (row, column, contrast): the region's center of mass, floats relative to height and width, and its attention
    as a multiple of what a uniform map gives the same keys.
    """
    height, width = map_.shape
    reach = _reach(height, width)
    padded = np.pad(np.asarray(map_, np.float64), reach)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1,) * 2)
    keys = np.lib.stride_tricks.sliding_window_view(np.pad(np.ones(map_.shape), reach), (2 * reach + 1,) * 2)
    row, column = np.unravel_index(windows.sum((-2, -1)).argmax(), (height, width))
    window, share = windows[row, column], padded.sum() or 1.0
    mass = window.sum() or 1.0
    down, right = (window.sum(axis) @ np.arange(-reach, reach + 1) / mass for axis in (1, 0))
    contrast = mass / share * map_.size / keys[row, column].sum()
    return (row + down + 0.5) / height, (column + right + 0.5) / width, contrast


def _reach(height, width):
    return 1 if max(height, width) > 4 else 0


def largest_share(map_):
    """Describes the upper end of a map's scale: its largest share, and that share in terms of a uniform map's."""
    share = np.max(map_) / (np.sum(map_) or 1.0)
    return f"max {100 * share:.3g}%, {share * np.size(map_):.1f} x uniform"


def add_caption(picture, queries, keys):
    """Adds a color bar and a caption below rows of maps, whose grids have the (height, width) of `queries`, `keys`."""
    font = ImageFont.load_default(13)
    regions = dict.fromkeys("3 x 3 keys" if _reach(y, x) else "key" for y, x in keys)
    sizes = " or ".join(f"{h} x {w} positions attends to {y} x {x} keys" for (h, w), (y, x) in zip(queries, keys))
    sentences = (
        f"Each of {sizes}. gamma is the weight of attention in the layer's output.",
        "Left: the image with its query positions, colored dots. Then a map for each dot: which share of its "
        "attention each key gets, on a linear scale from 0 to the map's max, which is given below it.",
        f"Arrow: from the query to the {' or '.join(regions)} with the most attention. Ring: at the query. No mark: "
        f"less than {STANDS_OUT} times what a uniform map gives there.",
    )
    lines = [line for sentence in sentences for line in _wrap(sentence, picture.width - 2 * _MARGIN, font)]
    height = picture.height + _BAR_HEIGHT + (len(lines) + 2) * _LINE_HEIGHT + _MARGIN
    canvas = Image.new("RGB", (max(picture.width, _BAR_WIDTH + 2 * _MARGIN), height), BACKGROUND)
    canvas.paste(picture)
    draw, y = ImageDraw.Draw(canvas), picture.height
    bar = Image.new("RGB", (_BAR_WIDTH, _BAR_HEIGHT), (128, 128, 128))
    canvas.paste(overlay(bar, np.linspace(0, 1, _BAR_WIDTH)[None]), (_MARGIN, y))
    for share, anchor, text in ((0, "la", "0"), (0.5, "ma", "half"), (1, "ra", "max")):
        draw.text((_MARGIN + share * _BAR_WIDTH, y + _BAR_HEIGHT + 2), text, INK, font, anchor=anchor)
    y += _BAR_HEIGHT + 2 * _LINE_HEIGHT - 6
    for i, line in enumerate(lines):
        draw.text((_MARGIN, y + i * _LINE_HEIGHT), line, FAINT, font)
    return canvas


def _wrap(text, width, font):
    lines = [""]
    for word in text.split():
        line = f"{lines[-1]} {word}".strip()
        if font.getlength(line) <= width or not lines[-1]:
            lines[-1] = line
        else:
            lines.append(word)
    return lines
