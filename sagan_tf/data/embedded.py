"""The embedded data sets `twins` and `mirror`: rendered, not stored, with distant parts that must agree.

An image is a pure function of (data set, seed, split, index, size, channels). It uses only raw words of the Philox
generator and elementary arithmetic, so it is the same on every machine and with every version of NumPy. Lengths are
given at 32 px and scale with the image.

twins: one shape in the left half and one in the right, at independent positions, of the same kind (disc, ring, square,
    cross) and the same one of six colors. The label is the kind. The color is not given: a generator must make the
    halves agree on it.
mirror: three shapes of one kind in the left half, one above the other, each of an independent color, and their mirror
    image in the right half. The label is the kind; three colors and positions must agree.
"""

from __future__ import annotations

import numpy as np

VERSION = "1.0.0"  # Raise it with any change of an image.
NAMES = ("twins", "mirror")
SPLITS = {"train": 20_000, "test": 2_000}  # Number of images.
KINDS = ("disc", "ring", "square", "cross")
MIN_SIZE, MAX_SIZE = 32, 256  # px
REFERENCE_SIZE = 32  # px; the lengths below refer to it.
COLORS = np.array(
    [[230, 60, 50], [240, 160, 40], [90, 190, 70], [50, 170, 200], [80, 90, 220], [200, 80, 190]], np.float64
)
GRAYS = np.array([[105], [135], [165], [195], [225], [255]], np.float64)
TWINS_SIDE, TWINS_MAX_X, TWINS_MIN_Y, TWINS_MAX_Y = 12, 3, 1, 19
MIRROR_SIDE, MIRROR_MAX_Y, MIRROR_BAND, MIRROR_BANDS = 8, 2, 10, 3
_NOISE_SD = 4.0  # Gray levels.
# By channels: minimum and maximum level, and its change from the center to a border.
_BACKGROUND = {3: (20.0, 90.0, 25.0), 1: (10.0, 50.0, 12.0)}
_NUM_DRAWS = 32  # Raw words that precede the noise.
_CHUNK = 512  # Images rendered at a time.


def render(name, indices, *, split="train", image_size=32, channels=3, seed=0, matched=True):
    """Renders images of an embedded data set.

    Args:
        name: `twins` or `mirror`.
        indices: Sequence of N ints >= 0.
        split: Key of `SPLITS`; splits share no image.
        image_size: Height and width, S, 32 to 256 px.
        channels: 3, or 1 for gray, with six gray levels in place of the colors.
        seed: int >= 0. Each seed gives another data set of the same kind.
        matched: bool. False draws the right half independently, which gives chance levels of agreement.

    Returns:
        (images, labels): uint8 (N, S, S, C) and int32 (N,), the kind of shape (in the left half).

    Raises:
        ValueError: An argument is out of its range.
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
        canvas = _background(draws, image_size, channels, symmetric=name == "mirror")
        draw_shapes = _draw_twins if name == "twins" else _draw_mirror
        labels[part] = draw_shapes(canvas, draws, matched)
        images[part] = np.clip(np.rint(canvas + noise), 0, 255)
    return images, labels


def shape_masks(side):
    """Returns a mask per kind, in the order of `KINDS`, float64 (4, side, side) of 0 and 1, symmetric in both axes."""
    axis = (2 * np.arange(side) - (side - 1)) / (side - 1)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    radius = np.hypot(x, y)
    square = np.maximum(abs(x), abs(y)) < 0.88
    cross = (abs(x) < 0.3) | (abs(y) < 0.3)
    return np.stack([radius < 1, (radius < 1) & (radius > 0.5), square, cross]).astype(np.float64)


def _raw_draws(name, indices, split, image_size, channels, seed):
    """Returns uniform draws (N, _NUM_DRAWS) in [0, 1) and noise in gray levels (N, S, S, C)."""
    values = image_size * image_size * channels
    words = np.empty((len(indices), _NUM_DRAWS + (values + 1) // 2), np.uint64)
    stream = NAMES.index(name) * 16 + tuple(SPLITS).index(split)
    for row, index in enumerate(indices):
        words[row] = np.random.Philox(key=[seed, (stream << 40) + int(index)]).random_raw(words.shape[1])
    draws = (words[:, :_NUM_DRAWS] >> np.uint64(11)) * 2.0**-53
    # The sum of four bytes is close to normal: mean 510, variance 4 (256^2 - 1) / 12.
    byte_groups = words[:, _NUM_DRAWS:].astype("<u8").view(np.uint8).reshape(len(indices), -1, 4)[:, :values]
    noise = (byte_groups.sum(-1, dtype=np.float32) - 510.0) * np.float32(_NOISE_SD / np.sqrt(4 * (256**2 - 1) / 12))
    return draws, noise.reshape(len(indices), image_size, image_size, channels)


def _background(draws, image_size, channels, symmetric):
    """Returns a random color plus a linear gradient (vertical if `symmetric`), (N, S, S, C). Uses draws 0 to 4."""
    low, high, change = _BACKGROUND[channels]
    axis = (2 * np.arange(image_size) - (image_size - 1)) / (image_size - 1)
    color = low + (high - low) * draws[:, :channels]
    vertical, horizontal = change * (2 * draws[:, 3] - 1), change * (2 * draws[:, 4] - 1) * (not symmetric)
    gradient = vertical[:, None, None] * axis[None, :, None] + horizontal[:, None, None] * axis[None, None, :]
    return color[:, None, None, :] + gradient[..., None]


def _draw_twins(canvas, draws, matched):
    """Draws two shapes; returns the kind of the left one. Uses draws 5 to 13."""
    size = canvas.shape[1]
    scale = size / REFERENCE_SIZE
    masks = shape_masks(round(TWINS_SIDE * scale))
    kind, hue = _integer(draws[:, 5], 0, 3), _integer(draws[:, 6], 0, 5)
    right_kind, right_hue = (kind, hue) if matched else (_integer(draws[:, 12], 0, 3), _integer(draws[:, 13], 0, 5))
    brightness = 0.8 + 0.3 * draws[:, 7]
    min_y, max_y, max_x = (round(length * scale) for length in (TWINS_MIN_Y, TWINS_MAX_Y, TWINS_MAX_X))
    left = _integer(draws[:, 9], 0, max_x)
    right = size - masks.shape[1] - _integer(draws[:, 11], 0, max_x)
    left_top, right_top = _integer(draws[:, 8], min_y, max_y), _integer(draws[:, 10], min_y, max_y)
    _draw_masks(canvas, masks[kind], left_top, left, _color(canvas, hue, brightness))
    _draw_masks(canvas, masks[right_kind], right_top, right, _color(canvas, right_hue, brightness))
    return kind


def _draw_mirror(canvas, draws, matched):
    """Draws three shapes and their mirror images; returns the kind of the left ones. Uses draws 5 to 25."""
    brightness = 0.8 + 0.3 * draws[:, 5]
    kind = _draw_column(canvas, draws[:, 6:16], brightness)
    _draw_column(canvas[:, :, ::-1], draws[:, 6:16] if matched else draws[:, 16:26], brightness)
    return kind


def _draw_column(canvas, draws, brightness):
    """Draws three shapes of one kind into the left half; returns the kind. Uses ten draws."""
    scale = canvas.shape[1] / REFERENCE_SIZE
    masks = shape_masks(round(MIRROR_SIDE * scale))
    kind = _integer(draws[:, 0], 0, 3)
    for band in range(MIRROR_BANDS):
        hue_draw, y_draw, x_draw = draws[:, 1 + 3 * band : 4 + 3 * band].T
        top = round((1 + MIRROR_BAND * band) * scale) + _integer(y_draw, 0, round(MIRROR_MAX_Y * scale))
        left = _integer(x_draw, 0, canvas.shape[1] // 2 - masks.shape[1])
        _draw_masks(canvas, masks[kind], top, left, _color(canvas, _integer(hue_draw, 0, 5), brightness))
    return kind


def _integer(draw, low, high):
    """Maps draws in [0, 1) to integers low to high, both included."""
    return low + np.floor(draw * (high - low + 1)).astype(np.int64)


def _color(canvas, hue, brightness):
    """Returns colors (N, C). Brightness does not vary gray levels, which it alone tells apart."""
    return COLORS[hue] * brightness[:, None] if canvas.shape[-1] == 3 else GRAYS[hue]


def _draw_masks(canvas, masks, top, left, colors):
    """Blends mask i, of (N, side, side), in its color into image i at (top, left)."""
    side = np.arange(masks.shape[1])
    rows, columns = (top[:, None] + side)[:, :, None], (left[:, None] + side)[:, None, :]
    region = (np.arange(len(canvas))[:, None, None], rows, columns)
    background = canvas[region]
    canvas[region] = background + (colors[:, None, None, :] - background) * masks[..., None]
