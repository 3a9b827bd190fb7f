"""How often pictures keep the rule of an embedded data set: read off the pixels, with no network to judge them.

Every shape of a picture is looked for where the rule wants one: in twins one in each half, in mirror one in each half
of three bands. Templates of the four kinds are laid at every place there, and the kind and place of the highest
correlation are the shape's; its colour is the nearest of the six to the mean inside the template.

What chance gives, with halves that know nothing of each other: hue 1/6, kind 1/4, all of a twins picture 1/24, the
place of a mirror pair within one pixel of 32 about 0.24 (at 32 px 25/81 for the column times 7/9 for the row);
`chance_levels` measures them all. An agreement says nothing without the share of valid pictures and the entropy: one
good picture repeated for ever agrees perfectly.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from sagan_tf.data.embedded import (
    COLOURS,
    GREYS,
    KINDS,
    MIRROR_BAND,
    MIRROR_BANDS,
    MIRROR_SIDE,
    NAMES,
    REFERENCE_SIZE,
    TWINS_SIDE,
    render,
    shape_masks,
)

MIN_CORRELATION = 0.7  # Below this a thing is no shape.
_FLAT = 5.0  # Grey levels of contrast that count as little: keeps flat places from correlating by accident.
_CHUNK_VALUES = 1 << 22  # Pixels looked at in one go.


@dataclasses.dataclass(frozen=True)
class Reading:
    """The shapes of N pictures, P pairs in each. Arrays (N, P, 2), the last axis left and right.

    Args:
        correlation: float, -1 to 1, with the best template.
        kind: int, 0 to 3, index into `embedded.KINDS`.
        hue: int, 0 to 5, index into the colours (grey levels with one channel).
        row, column: int px, the shape's place; the column counts from the picture's own edge on that side.
        image_size: px.
    """

    correlation: np.ndarray
    kind: np.ndarray
    hue: np.ndarray
    row: np.ndarray
    column: np.ndarray
    image_size: int

    @classmethod
    def join(cls, readings):
        """Joins readings of pictures of one size, a non-empty list, into one."""
        names = ("correlation", "kind", "hue", "row", "column")
        columns = [np.concatenate([getattr(one, name) for one in readings]) for name in names]
        return cls(*columns, image_size=readings[0].image_size)

    @property
    def valid(self):
        """(N,) bool: every shape that the rule wants is there."""
        return (self.correlation > MIN_CORRELATION).all(axis=(1, 2))


def read_shapes(name, images):
    """Reads the shapes off pictures of an embedded data set, or of a generator trained on it.

    Args:
        name: `twins` or `mirror`.
        images: uint8 or float array (N, S, S, C) in [0, 255], N from 1, S from 32 up, C 1 or 3.

    Returns:
        Reading.

    Raises:
        ValueError: An argument is not one of those above.
    """
    images = np.asarray(images)
    square = images.ndim == 4 and images.shape[1] == images.shape[2] >= REFERENCE_SIZE and images.shape[3] in (1, 3)
    if name not in NAMES or not square or not len(images):
        raise ValueError(
            f"`name` must be one of {NAMES}, `images` of shape (N, S, S, 1 or 3) with N >= 1, S >= {REFERENCE_SIZE}. "
            f"Received: name={name!r}, images of shape {images.shape}"
        )
    step = max(1, _CHUNK_VALUES // images[0].size)
    chunks = [_read_chunk(name, images[i : i + step].astype(np.float64)) for i in range(0, len(images), step)]
    columns = [np.concatenate(column) for column in zip(*chunks)]
    return Reading(*columns, image_size=images.shape[1])


def score(name, images, labels=None):
    """How often pictures keep the rule.

    Args:
        name: `twins` or `mirror`.
        images: uint8 or float array (N, S, S, C) in [0, 255], N >= 1.
        labels: int array (N,), the kinds that were asked for, or None.

    Returns:
        dict of floats: `valid`, the share of pictures with a shape wherever one belongs; among the valid ones (NaN if
        there are none) `hue_agreement`, `kind_agreement` and, for mirror, `place_agreement`, each the share of pairs,
        `entropy_bits` of the first shape's kind and hue (4.585 where all 24 are equally frequent, 0 in a collapse),
        and, with labels, `class_accuracy` of the left kind; and `score`, the share of all pictures that are valid and
        keep the whole rule.

    Raises:
        ValueError: As `read_shapes`, or there is not one label a picture.
    """
    if labels is not None and np.shape(labels) != (len(images),):
        raise ValueError(
            f"`labels` must be (N,). Received: {len(images)} images, labels of shape {np.shape(labels)}"
        )
    return score_reading(name, read_shapes(name, images), labels)


def score_reading(name, reading, labels=None):
    """As `score`, of shapes that were read already.

    Args:
        name: `twins` or `mirror`.
        reading: `Reading`.
        labels: int array (N,), or None.

    Returns:
        dict of floats, as `score`.
    """
    valid, agreements = reading.valid, _agreements(name, reading)
    result = {"valid": float(valid.mean())}
    result |= {f"{part}_agreement": _mean(agrees[valid]) for part, agrees in agreements.items()}
    result["entropy_bits"] = _entropy_bits(reading.kind[valid, 0, 0] * len(COLOURS) + reading.hue[valid, 0, 0])
    if labels is not None:
        result["class_accuracy"] = _mean((reading.kind[:, :, 0] == np.asarray(labels)[:, None])[valid])
    kept = np.all([agrees.all(axis=1) for agrees in agreements.values()], axis=0)
    return result | {"score": float((valid & kept).mean())}


def chance_levels(name, *, image_size=32, channels=3, num_images=2000):
    """What `score` gives to pictures whose halves were drawn without regard to each other, by measurement.

    Args:
        name: `twins` or `mirror`.
        image_size, channels: Of the pictures.
        num_images: Pictures to measure on; the standard error of a share p is sqrt(p (1 - p) / num_images).

    Returns:
        dict as of `score`.
    """
    images, labels = render(
        name, range(num_images), split="test", image_size=image_size, channels=channels, matched=False
    )
    return score(name, images, labels)


def _agreements(name, reading):
    """(N, P) bool by part of the rule: whether the two shapes of each pair agree."""
    pairs = {"hue": reading.hue, "kind": reading.kind}
    agreements = {part: values[..., 0] == values[..., 1] for part, values in pairs.items()}
    if name == "mirror":
        tolerance = reading.image_size / REFERENCE_SIZE  # One pixel of the reference size.
        apart = np.maximum(abs(np.diff(reading.row)), abs(np.diff(reading.column)))[..., 0]
        agreements["place"] = apart <= tolerance
    return agreements


def _read_chunk(name, images):
    """Correlation, kind, hue, row and column, each (n, P, 2)."""
    size = images.shape[1]
    scale = size / REFERENCE_SIZE
    # The right half is looked at in a mirror; the kinds are symmetric, and columns then count from its own edge.
    sides = [images[:, :, : size // 2], images[:, :, ::-1][:, :, : size // 2]]
    masks = shape_masks(round((TWINS_SIDE if name == "twins" else MIRROR_SIDE) * scale))
    backgrounds = [np.median(side, axis=(1, 2), keepdims=True) for side in sides]
    bands = [slice(0, size)] if name == "twins" else [_band(number, scale) for number in range(MIRROR_BANDS)]
    found = [
        [_find(side[:, band], background, masks) for side, background in zip(sides, backgrounds)] for band in bands
    ]
    return tuple(
        np.stack([np.stack([side[part] for side in pair], axis=-1) for pair in found], axis=1) for part in range(5)
    )


def _band(number, scale):
    """Rows in which shape `number` of a mirror picture lies."""
    return slice(round(MIRROR_BAND * number * scale), round((MIRROR_BAND * (number + 1) + 2) * scale))


def _find(area, background, masks):
    """The best shape in each area (n, H, W, C): correlation, kind, hue, row and column, each (n,)."""
    distance = np.linalg.norm(area - background, axis=-1)
    correlations = _correlations(distance, masks)
    flat = correlations.reshape(len(area), -1)
    kind, row, column = np.unravel_index(flat.argmax(axis=1), correlations.shape[1:])
    return flat.max(axis=1), kind, _hues(area, masks[kind], row, column), row, column


def _correlations(distance, masks):
    """Pearson correlation of (n, H, W) with each template (4, side, side) at each place: (n, 4, places, places)."""
    side = masks.shape[1]
    centred = masks - masks.mean(axis=(1, 2), keepdims=True)
    templates = centred / np.linalg.norm(centred, axis=(1, 2), keepdims=True)
    ones = np.ones((1, side, side))
    total, squares = _slide(distance, ones), _slide(distance**2, ones)
    contrast = np.sqrt(np.maximum(squares - total**2 / side**2, 0.0))
    return _slide(distance, templates) / (contrast + _FLAT * side)


def _slide(pictures, templates):
    """Sums of products at every place that a template fits: (n, H, W) and (K, h, w) -> (n, K, H-h+1, W-w+1)."""
    shape, (height, width) = pictures.shape[1:], templates.shape[1:]
    spectrum = np.fft.rfft2(pictures)[:, None] * np.fft.rfft2(templates, shape).conj()
    return np.fft.irfft2(spectrum, shape)[..., : shape[0] - height + 1, : shape[1] - width + 1]


def _hues(area, masks, row, column):
    """The nearest colour of the pixels under each mask: by direction, for brightness varies; in grey by level."""
    side = np.arange(masks.shape[1])
    place = (np.arange(len(area))[:, None, None], (row[:, None] + side)[:, :, None], (column[:, None] + side)[:, None])
    weights = masks[..., None] / masks.sum(axis=(1, 2))[:, None, None, None]
    colour = (area[place] * weights).sum(axis=(1, 2))
    if colour.shape[1] == 1:
        return abs(colour - GREYS[:, 0]).argmin(axis=1)
    return (colour @ (COLOURS / np.linalg.norm(COLOURS, axis=1, keepdims=True)).T).argmax(axis=1)


def _mean(values):
    return float(values.mean()) if values.size else float("nan")


def _entropy_bits(outcomes):
    if not outcomes.size:
        return float("nan")
    shares = np.bincount(outcomes, minlength=len(KINDS) * len(COLOURS)) / len(outcomes)
    shares = shares[shares > 0]
    return float(abs(-(shares * np.log2(shares)).sum()))
