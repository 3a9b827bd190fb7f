"""Scores how often images follow the rule of an embedded data set, from pixels alone.

A shape is expected in each half of a `twins` image, and in each half of the three bands of a `mirror` image. Templates
of the four kinds are correlated with every position there; the best correlation gives kind and position, and the color
is the nearest of the six to the mean under the template.

Independent halves agree by chance: hue 1/6, kind 1/4, all of a twins image 1/24, position of a mirror pair within one
pixel of 32 about 0.24 (at 32 px 25/81 for the column times 7/9 for the row); `chance_levels` measures them. Read
agreements together with the share of valid images and the entropy: one good image repeated forever agrees perfectly.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from sagan_tf.data.embedded import (
    COLORS,
    GRAYS,
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

MIN_CORRELATION = 0.7  # Of a shape with its template.
_MIN_CONTRAST = 5.0  # Gray levels; keeps flat areas from correlating by accident.
_CHUNK_VALUES = 1 << 22  # Pixel values processed at a time.


@dataclasses.dataclass(frozen=True)
class Reading:
    """The shapes of N images with P pairs each. Arrays are (N, P, 2); the last axis is left and right.

    Args:
        correlation: float in [-1, 1], with the best template.
        kind: int, 0 to 3, index into `embedded.KINDS`.
        hue: int, 0 to 5, index into the colors (gray levels with one channel).
        row, column: int px, position of the shape; columns count from the image border on its side.
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
        """Concatenates a non-empty list of readings of images of one size."""
        names = ("correlation", "kind", "hue", "row", "column")
        columns = [np.concatenate([getattr(reading, name) for reading in readings]) for name in names]
        return cls(*columns, image_size=readings[0].image_size)

    @property
    def valid(self):
        """(N,) bool: whether every expected shape is present."""
        return (self.correlation > MIN_CORRELATION).all(axis=(1, 2))


def read_shapes(name, images):
    """Detects the shapes in images of an embedded data set, or of a generator trained on it.

    Args:
        name: `twins` or `mirror`.
        images: uint8 or float array (N, S, S, C) in [0, 255]; N >= 1, S >= 32, C 1 or 3.

    Returns:
        Reading.

    Raises:
        ValueError: An argument is out of its range.
    """
    images = np.asarray(images)
    square = images.ndim == 4 and images.shape[1] == images.shape[2] >= REFERENCE_SIZE and images.shape[3] in (1, 3)
    if name not in NAMES or not square or not len(images):
        raise ValueError(
            f"`name` must be one of {NAMES}, `images` of shape (N, S, S, 1 or 3) with N >= 1, S >= {REFERENCE_SIZE}. "
            f"Received: name={name!r}, images of shape {images.shape}"
        )
    chunk = max(1, _CHUNK_VALUES // images[0].size)
    chunks = [_read_chunk(name, images[i : i + chunk].astype(np.float64)) for i in range(0, len(images), chunk)]
    columns = [np.concatenate(column) for column in zip(*chunks)]
    return Reading(*columns, image_size=images.shape[1])


def score(name, images, labels=None):
    """Measures how often images follow the rule.

    Args:
        name: `twins` or `mirror`.
        images: uint8 or float array (N, S, S, C) in [0, 255], N >= 1.
        labels: int array (N,), the kinds asked for, or None.

    Returns:
        dict of floats:
            valid: Share of images with every expected shape. The next four are of these alone, NaN if there are none.
            hue_agreement, kind_agreement, place_agreement (mirror only): Share of pairs that agree.
            entropy_bits: Of kind and hue of the first shape; 4.585 if all 24 are equally frequent, 0 if all are equal.
            class_accuracy (only with labels): Share of left shapes of the kind asked for.
            score: Share of all images that are valid and follow the whole rule.

    Raises:
        ValueError: As `read_shapes`, or `labels` does not have one label per image.
    """
    if labels is not None and np.shape(labels) != (len(images),):
        raise ValueError(f"`labels` must be (N,). Received: {len(images)} images, labels of shape {np.shape(labels)}")
    return score_reading(name, read_shapes(name, images), labels)


def score_reading(name, reading, labels=None):
    """Like `score`, from the `Reading` of the images."""
    valid, agreements = reading.valid, _agreements(name, reading)
    result = {"valid": float(valid.mean())}
    result |= {f"{part}_agreement": _mean(agrees[valid]) for part, agrees in agreements.items()}
    result["entropy_bits"] = _entropy_bits(reading.kind[valid, 0, 0] * len(COLORS) + reading.hue[valid, 0, 0])
    if labels is not None:
        result["class_accuracy"] = _mean((reading.kind[:, :, 0] == np.asarray(labels)[:, None])[valid])
    follows_rule = np.all([agrees.all(axis=1) for agrees in agreements.values()], axis=0)
    return result | {"score": float((valid & follows_rule).mean())}


def chance_levels(name, *, image_size=32, channels=3, num_images=2000):
    """Measures `score` on images with independent halves; a share p has standard error sqrt(p (1 - p) / num_images)."""
    images, labels = render(
        name, range(num_images), split="test", image_size=image_size, channels=channels, matched=False
    )
    return score(name, images, labels)


def _agreements(name, reading):
    """Returns (N, P) bool by part of the rule: whether the two shapes of a pair agree."""
    hue, kind = reading.hue, reading.kind
    agreements = {"hue": hue[..., 0] == hue[..., 1], "kind": kind[..., 0] == kind[..., 1]}
    if name == "mirror":
        distance = np.maximum(abs(np.diff(reading.row)), abs(np.diff(reading.column)))[..., 0]
        agreements["place"] = distance <= reading.image_size / REFERENCE_SIZE  # One pixel at the reference size.
    return agreements


def _read_chunk(name, images):
    """Returns correlation, kind, hue, row and column, each (N, P, 2)."""
    size = images.shape[1]
    scale = size / REFERENCE_SIZE
    # The right half is mirrored so that its columns count from its own border; the kinds are symmetric.
    halves = [images[:, :, : size // 2], images[:, :, ::-1][:, :, : size // 2]]
    masks = shape_masks(round((TWINS_SIDE if name == "twins" else MIRROR_SIDE) * scale))
    backgrounds = [np.median(half, axis=(1, 2), keepdims=True) for half in halves]
    bands = [slice(0, size)] if name == "twins" else [_band(number, scale) for number in range(MIRROR_BANDS)]
    pairs = [
        [_find_shape(half[:, band], background, masks) for half, background in zip(halves, backgrounds)]
        for band in bands
    ]
    return tuple(
        np.stack([np.stack([shape[i] for shape in pair], axis=-1) for pair in pairs], axis=1) for i in range(5)
    )


def _band(number, scale):
    """Rows that contain shape `number` of a mirror image."""
    return slice(round(MIRROR_BAND * number * scale), round((MIRROR_BAND * (number + 1) + 2) * scale))


def _find_shape(area, background, masks):
    """Returns correlation, kind, hue, row and column, each (N,), of the best match in each area (N, H, W, C)."""
    distance = np.linalg.norm(area - background, axis=-1)
    correlations = _correlate(distance, masks)
    flat = correlations.reshape(len(area), -1)
    kind, row, column = np.unravel_index(flat.argmax(axis=1), correlations.shape[1:])
    return flat.max(axis=1), kind, _hues(area, masks[kind], row, column), row, column


def _correlate(distance, masks):
    """Pearson correlation of (N, H, W) with templates (4, side, side) at every position: (N, 4, rows, columns)."""
    side = masks.shape[1]
    centered = masks - masks.mean(axis=(1, 2), keepdims=True)
    templates = centered / np.linalg.norm(centered, axis=(1, 2), keepdims=True)
    ones = np.ones((1, side, side))
    total, squares = _cross_correlate(distance, ones), _cross_correlate(distance**2, ones)
    contrast = np.sqrt(np.maximum(squares - total**2 / side**2, 0.0))
    return _cross_correlate(distance, templates) / (contrast + _MIN_CONTRAST * side)


def _cross_correlate(images, templates):
    """Sums of products at every position: (N, H, W) and (K, h, w) -> (N, K, H-h+1, W-w+1)."""
    shape, (height, width) = images.shape[1:], templates.shape[1:]
    spectrum = np.fft.rfft2(images)[:, None] * np.fft.rfft2(templates, shape).conj()
    return np.fft.irfft2(spectrum, shape)[..., : shape[0] - height + 1, : shape[1] - width + 1]


def _hues(area, masks, row, column):
    """Index of the color nearest to the mean under each mask: by direction, since brightness varies; gray by level."""
    side = np.arange(masks.shape[1])
    rows, columns = (row[:, None] + side)[:, :, None], (column[:, None] + side)[:, None]
    weights = masks[..., None] / masks.sum(axis=(1, 2))[:, None, None, None]
    color = (area[np.arange(len(area))[:, None, None], rows, columns] * weights).sum(axis=(1, 2))
    if color.shape[1] == 1:
        return abs(color - GRAYS[:, 0]).argmin(axis=1)
    return (color @ (COLORS / np.linalg.norm(COLORS, axis=1, keepdims=True)).T).argmax(axis=1)


def _mean(values):
    return float(values.mean()) if values.size else float("nan")


def _entropy_bits(outcomes):
    if not outcomes.size:
        return float("nan")
    shares = np.bincount(outcomes, minlength=len(KINDS) * len(COLORS)) / len(outcomes)
    shares = shares[shares > 0]
    return float(abs(-(shares * np.log2(shares)).sum()))
