"""Pictures that are computed, not stored: `twins` and `mirror`, whose parts far apart must agree.

A picture is a pure function of (data set, seed, split, number, size, channels), whatever else is rendered with it. All
lengths are given below at 32 px and grow with the picture. Only raw words of the Philox generator and elementary
arithmetic are used, so that a picture is the same on every machine and with every version of NumPy.

twins: one shape in the left half, one in the right, at independent places; both have the same kind (disc, ring, square,
    cross) and the same one of six colours. The label is the kind. The colour is never told: a generator has to make the
    halves agree on it by itself.
mirror: three shapes of one kind in the left half, one above the other, each of an independent colour, and their mirror
    image in the right half. The label is the kind; three colours and places have to agree.
"""

from __future__ import annotations

import numpy as np

VERSION = "1.0.0"  # To be raised with any change of a picture.
NAMES = ("twins", "mirror")
SPLITS = {"train": 20_000, "test": 2_000}  # Pictures in each.
KINDS = ("disc", "ring", "square", "cross")
MIN_SIZE, MAX_SIZE = 32, 256  # px
REFERENCE_SIZE = 32  # px: the size that the lengths below refer to.
COLOURS = np.array(
    [[230, 60, 50], [240, 160, 40], [90, 190, 70], [50, 170, 200], [80, 90, 220], [200, 80, 190]], np.float64
)
GREYS = np.array([[105], [135], [165], [195], [225], [255]], np.float64)
TWINS_SIDE, TWINS_MAX_X, TWINS_MIN_Y, TWINS_MAX_Y = 12, 3, 1, 19
MIRROR_SIDE, MIRROR_MAX_X, MIRROR_MAX_Y, MIRROR_BAND, MIRROR_BANDS = 8, 8, 2, 10, 3
_NOISE_SD = 4.0  # Grey levels.
_BACKGROUND = {3: (20.0, 90.0, 25.0), 1: (10.0, 50.0, 12.0)}  # Lowest, highest, slope to each border.
_NUM_DRAWS = 32  # Raw words before those of the noise.
_CHUNK = 512  # Pictures rendered at a time.


def render(name, indices, *, split="train", image_size=32, channels=3, seed=0, matched=True):
    """Renders pictures of an embedded data set.

    Args:
        name: `twins` or `mirror`.
        indices: Numbers of the pictures, a sequence of N ints >= 0.
        split: A key of `SPLITS`; each has pictures of its own.
        image_size: Height and width in px, 32 to 256.
        channels: 3, or 1 for grey, where six grey levels stand for the colours.
        seed: int >= 0. Another seed is another data set of the same kind.
        matched: Let the parts agree. False draws the right half on its own: what chance gives.

    Returns:
        (images, labels): uint8 (N, S, S, C) and int32 (N,), the kind of shape (in the left half).

    Raises:
        ValueError: An argument is not one of those above.
    """
    if name not in NAMES or split not in SPLITS or not MIN_SIZE <= image_size <= MAX_SIZE or channels not in (1, 3):
        raise ValueError(
            f"`name` must be one of {NAMES}, `split` one of {tuple(SPLITS)}, `image_size` in {MIN_SIZE} .. {MAX_SIZE}, "
            f"`channels` 1 or 3. Received: name={name!r}, split={split!r}, image_size={image_size}, channels={channels}"
        )
    indices = np.asarray(indices, np.int64).reshape(-1)
    images = np.empty((len(indices), image_size, image_size, channels), np.uint8)
    labels = np.empty(len(indices), np.int32)
    for start in range(0, len(indices), _CHUNK):
        part = slice(start, start + _CHUNK)
        draws, noise = _raw_draws(name, indices[part], split, image_size, channels, seed)
        paint = _paint_twins if name == "twins" else _paint_mirror
        canvas = _background(draws, image_size, channels, symmetric=name == "mirror")
        labels[part] = paint(canvas, draws, matched)
        images[part] = np.clip(np.rint(canvas + noise), 0, 255)
    return images, labels


def shape_masks(side):
    """The four kinds of shape, each symmetric left to right and top to bottom.

    Args:
        side: Height and width in px.

    Returns:
        float64 array (4, side, side) of 0 and 1, in the order of `KINDS`.
    """
    axis = (2 * np.arange(side) - (side - 1)) / (side - 1)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    radius = np.hypot(x, y)
    square = np.maximum(abs(x), abs(y)) < 0.88
    cross = (abs(x) < 0.3) | (abs(y) < 0.3)
    return np.stack([radius < 1, (radius < 1) & (radius > 0.5), square, cross]).astype(np.float64)


def _raw_draws(name, indices, split, image_size, channels, seed):
    """Uniform draws, (n, _NUM_DRAWS) in [0, 1), and noise in grey levels, (n, S, S, C)."""
    values = image_size * image_size * channels
    words = np.empty((len(indices), _NUM_DRAWS + (values + 1) // 2), np.uint64)
    stream = NAMES.index(name) * 16 + tuple(SPLITS).index(split)
    for row, index in enumerate(indices):
        words[row] = np.random.Philox(key=[seed, (stream << 40) + int(index)]).random_raw(words.shape[1])
    draws = (words[:, :_NUM_DRAWS] >> np.uint64(11)) * 2.0**-53
    # The sum of four bytes is close to normal: mean 510, variance 4 (256^2 - 1) / 12.
    quads = words[:, _NUM_DRAWS:].astype("<u8").view(np.uint8).reshape(len(indices), -1, 4)[:, :values]
    noise = (quads.sum(-1, dtype=np.float32) - 510.0) * np.float32(_NOISE_SD / np.sqrt(4 * (256**2 - 1) / 12))
    return draws, noise.reshape(len(indices), image_size, image_size, channels)


def _background(draws, image_size, channels, symmetric):
    """A random colour and a linear ramp, (n, S, S, C), from draws 0 to 4; level left to right where symmetric."""
    low, high, slope = _BACKGROUND[channels]
    axis = (2 * np.arange(image_size) - (image_size - 1)) / (image_size - 1)
    colour = low + (high - low) * draws[:, :channels]
    down, right = slope * (2 * draws[:, 3] - 1), slope * (2 * draws[:, 4] - 1) * (not symmetric)
    ramp = down[:, None, None] * axis[None, :, None] + right[:, None, None] * axis[None, None, :]
    return colour[:, None, None, :] + ramp[..., None]


def _paint_twins(canvas, draws, matched):
    """Paints two shapes from draws 5 to 13 on the canvas; returns the left one's kind."""
    scale, size = canvas.shape[1] / REFERENCE_SIZE, canvas.shape[1]
    masks = shape_masks(round(TWINS_SIDE * scale))
    kind, hue = _integer(draws[:, 5], 0, 3), _integer(draws[:, 6], 0, 5)
    light = 0.8 + 0.3 * draws[:, 7]
    low, high = round(TWINS_MIN_Y * scale), round(TWINS_MAX_Y * scale)
    other_kind, other_hue = (kind, hue) if matched else (_integer(draws[:, 12], 0, 3), _integer(draws[:, 13], 0, 5))
    left = _integer(draws[:, 9], 0, round(TWINS_MAX_X * scale))
    right = size - masks.shape[1] - _integer(draws[:, 11], 0, round(TWINS_MAX_X * scale))
    _stamp(canvas, masks[kind], _integer(draws[:, 8], low, high), left, _colour(canvas, hue, light))
    _stamp(canvas, masks[other_kind], _integer(draws[:, 10], low, high), right, _colour(canvas, other_hue, light))
    return kind


def _paint_mirror(canvas, draws, matched):
    """Paints three shapes and their mirror images from draws 5 to 30 on the canvas; returns the left ones' kind."""
    light = 0.8 + 0.3 * draws[:, 5]
    kind = _paint_column(canvas, draws[:, 6:16], light)
    _paint_column(canvas[:, :, ::-1], draws[:, 6:16] if matched else draws[:, 16:26], light)
    return kind


def _paint_column(canvas, draws, light):
    """Paints three shapes of one kind into the left half of the canvas, from ten draws; returns the kind."""
    scale = canvas.shape[1] / REFERENCE_SIZE
    masks = shape_masks(round(MIRROR_SIDE * scale))
    kind = _integer(draws[:, 0], 0, 3)
    for band in range(MIRROR_BANDS):
        hue_draw, y_draw, x_draw = draws[:, 1 + 3 * band : 4 + 3 * band].T
        top = round((1 + MIRROR_BAND * band) * scale) + _integer(y_draw, 0, round(MIRROR_MAX_Y * scale))
        left = _integer(x_draw, 0, canvas.shape[1] // 2 - masks.shape[1])
        _stamp(canvas, masks[kind], top, left, _colour(canvas, _integer(hue_draw, 0, 5), light))
    return kind


def _integer(draw, low, high):
    """Integers low .. high, both included, from draws in [0, 1)."""
    return low + np.floor(draw * (high - low + 1)).astype(np.int64)


def _colour(canvas, hue, light):
    """Colours (n, C). Grey levels stay as they are, for their brightness is what tells them apart."""
    return COLOURS[hue] * light[:, None] if canvas.shape[-1] == 3 else GREYS[hue]


def _stamp(canvas, masks, top, left, colours):
    """Paints shape i, masks (n, side, side), in its colour at (top, left) of picture i."""
    side = np.arange(masks.shape[1])
    rows, columns = (top[:, None] + side)[:, :, None], (left[:, None] + side)[:, None, :]
    place = (np.arange(len(canvas))[:, None, None], rows, columns)
    below = canvas[place]
    canvas[place] = below + (colours[:, None, None, :] - below) * masks[..., None]
