"""Adaptive discriminator augmentation (ADA): invertible changes of images, with an adaptive probability."""

import functools
import math

import numpy as np
import tensorflow as tf
from keras import ops

from sagan_tf.training.distribution import mean_over_replicas

_GEOMETRIC = (
    "flip", "quarter_turns", "integer_translation", "scale", "rotation_before", "anisotropic_scale", "rotation_after",
    "fractional_translation",
)  # fmt: skip
TRANSFORMATIONS = (*_GEOMETRIC, "brightness", "contrast", "luma_flip", "hue", "saturation")
# Random numbers per image.
ADA_UNIFORMS, ADA_NORMALS = len(TRANSFORMATIONS) + 8, 7
INTERVAL = 4  # discriminator updates from one change of p to the next

# Low-pass filter of the wavelet sym6 (Daubechies 1992), summing to 1. Its center is element 5.
_LOW_PASS = np.array([
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
]) / math.sqrt(2)  # fmt: skip
_CENTER = 5
_MARGIN = len(_LOW_PASS) // 2  # samples at twice the resolution, beyond each edge, for the low-pass filter


def ada_augment(images, p, uniforms, normals):
    """Applies the geometric and color transformations of ADA, each to an image with probability `p`.

    An image goes through one resampling for all of its geometry. Beyond its edges it is reflected, over and over.

    Args:
        images: (B, H, W, C) in [-1, 1]. Colors change where C is 3; where it is 1, brightness, contrast and sign do.
        p: Scalar in [0, 1].
        uniforms: (B, ADA_UNIFORMS) in [0, 1): random numbers. The first choose among `TRANSFORMATIONS`, in that order.
        normals: (B, ADA_NORMALS) from N(0, 1): random numbers.

    Returns:
        (B, H, W, C), differentiable in `images`; may leave [-1, 1]. An image with no transformation stays bit by bit.

    Source: Karras et al. 2020, https://arxiv.org/abs/2006.06676, appendix B, pixel blitting, geometry and color.
    """
    p = ops.convert_to_tensor(p, "float32")
    p_rotation = 1.0 - ops.sqrt(1.0 - p)  # of each of both, so that an image is rotated with probability p
    probabilities = [p_rotation if name.startswith("rotation") else p for name in TRANSFORMATIONS]
    chosen = {name: uniforms[:, i] < probabilities[i] for i, name in enumerate(TRANSFORMATIONS)}

    def pick(name, value, neutral):
        return ops.where(chosen[name], value, neutral)

    uniforms, normals = ops.unstack(uniforms[:, len(chosen) :], axis=1), ops.unstack(normals, axis=1)
    geometry = _inverse_geometry(images.shape[1:3], pick, uniforms[:6], normals[:4])
    x = ops.cast(images, "float32")
    x = _where_any([chosen[name] for name in _GEOMETRIC], _resample(x, geometry), x)
    if images.shape[-1] in (1, 3):
        x = _where_any([chosen[name] for name in TRANSFORMATIONS[8:]], _color(x, pick, uniforms[6:], normals[4:]), x)
    return ops.cast(x, images.dtype)


def augment(gan, images, randomness, purpose):
    """Applies `ada_augment` with p of a SAGAN, and random numbers of a `StepRandomness` for this purpose."""
    rows = ops.shape(images)[0]
    uniforms = randomness.uniform(f"{purpose}/ada/uniform", rows, ADA_UNIFORMS)
    normals = randomness.normal(f"{purpose}/ada/normal", rows, ADA_NORMALS)
    return ada_augment(images, gan.ada_p, uniforms, normals)


def adapt_probability(gan, real_logit):
    """Counts the signs of a batch's real logits and moves p of a SAGAN at every fourth update of the discriminator.

    p moves toward 1 where the mean sign is above the target, which tells of overfitting, else toward 0.

    Source: Karras et al. 2020, section 3.1, the heuristic r_t.
    """
    p = ops.convert_to_tensor(gan.ada_p)
    sign = mean_over_replicas(ops.mean(ops.sign(ops.stop_gradient(real_logit))))
    signs = gan.ada_signs + ops.stack([sign, 1.0])
    is_due = signs[1] >= INTERVAL * gan.accumulation_steps
    images = signs[1] * ops.cast(ops.shape(real_logit)[0] * gan.distribute_strategy.num_replicas_in_sync, "float32")
    moved = p + ops.sign(signs[0] / signs[1] - gan.ada_target) * images / gan.ada_images
    gan.ada_p.assign(ops.where(is_due, ops.clip(moved, 0.0, 1.0), p))
    gan.ada_signs.assign(ops.where(is_due, ops.zeros_like(signs), signs))
    gan.record({"ada_p": p, "ada_sign": sign})


def check_adaptive(target, loss, augmentation):
    """Raises ValueError if p of ADA cannot be adapted by the signs of an `AdversarialLoss`, or images change twice."""
    if target and (loss.relativistic or loss.name in ("wasserstein", "least_squares")):
        raise ValueError(
            "`ada_target` needs a loss that separates the logits at 0, such as hinge or non_saturating. "
            f"Received: loss {loss.name}."
        )
    if target and augmentation:
        raise ValueError(f"`ada_target` takes the place of `augmentation`, which must be (). Received: {augmentation}.")


def _where_any(chosen, changed, images):
    is_changed = functools.reduce(ops.logical_or, chosen)
    return ops.where(ops.reshape(is_changed, (-1, 1, 1, 1)), changed, images)


def _inverse_geometry(size, pick, uniforms, normals):
    """Matrices (B, 3, 3) from places (x, y, 1) in the output to those in the input, from the centers, in pixels."""
    height, width = size
    turn = 2 * math.pi
    scale = pick("scale", 2.0 ** (0.2 * normals[0]), 1.0)
    stretch = pick("anisotropic_scale", 2.0 ** (0.2 * normals[1]), 1.0)
    inverses = (
        _diagonal(pick("flip", 1.0 - 2.0 * ops.floor(2.0 * uniforms[0]), 1.0), 1.0),
        _rotation(pick("quarter_turns", turn / 4 * ops.floor(4.0 * uniforms[1]), 0.0)),
        _translation(*(
            pick("integer_translation", ops.round((2.0 * u - 1.0) * (length / 8)), 0.0)
            for u, length in zip(uniforms[2:4], (width, height))
        )),
        _diagonal(1.0 / scale, 1.0 / scale),
        _rotation(pick("rotation_before", turn * (uniforms[4] - 0.5), 0.0)),
        _diagonal(1.0 / stretch, stretch),
        _rotation(pick("rotation_after", turn * (uniforms[5] - 0.5), 0.0)),
        _translation(*(
            pick("fractional_translation", (length / 8) * n, 0.0) for n, length in zip(normals[2:4], (width, height))
        )),
    )  # fmt: skip
    # Sums of products, which TF32 does not round as it would a matrix product.
    return functools.reduce(lambda a, b: ops.sum(a[:, :, :, None] * b[:, None], axis=2), inverses)


def _matrix(first, second):
    """Matrices (B, 3, 3) of two rows of tensors (B,) or floats, and (0, 0, 1)."""
    zeros = next(ops.zeros_like(x) for x in (*first, *second) if not isinstance(x, float))
    return ops.stack([ops.stack([x + zeros for x in row], axis=-1) for row in (first, second, (0.0, 0.0, 1.0))], axis=1)


def _diagonal(x, y):
    return _matrix((x, 0.0, 0.0), (0.0, y, 0.0))


def _translation(x, y):
    return _matrix((1.0, 0.0, -x), (0.0, 1.0, -y))


def _rotation(angle):
    return _matrix((ops.cos(angle), -ops.sin(angle), 0.0), (ops.sin(angle), ops.cos(angle), 0.0))


def _resample(images, inverse):
    """Upsamples twofold, samples bilinearly at the places of twice as many pixels, filters and takes every second."""
    height, width = images.shape[1:3]
    fine = ops.einsum("nh,bhwc->bnwc", _upsampling(height), images)
    fine = ops.einsum("nw,bhwc->bhnc", _upsampling(width), fine)
    # Four neighbors side by side, so that one gather, whose gradient is slow, takes all.
    fine = ops.concatenate([fine, ops.roll(fine, -1, axis=2)], axis=-1)
    fine = ops.concatenate([fine, ops.roll(fine, -1, axis=1)], axis=-1)
    y, x = (
        ops.arange(-_MARGIN, 2 * length + _MARGIN, dtype="float32") / 2 - (length - 1) / 2
        for length in images.shape[1:3]
    )
    x, y = x[None, None, :], y[None, :, None]
    places = []
    for row, length in ((1, height), (0, width)):
        a, b, c = (inverse[:, row, column][:, None, None] for column in range(3))
        places.append(2 * (a * x + b * y + c + (length - 1) / 2))
    floors = [ops.floor(place) for place in places]
    (low_y, low_x), (part_y, part_x) = floors, ((p - low)[..., None] for p, low in zip(places, floors))
    rows, columns = fine.shape[1:3]
    index = ops.mod(ops.cast(low_y, "int32"), rows) * columns + ops.mod(ops.cast(low_x, "int32"), columns)
    taken = tf.gather(ops.reshape(fine, (-1, rows * columns, fine.shape[-1])), index, batch_dims=1)
    upper, lower = ops.split(taken, 2, axis=-1)
    taken = upper + part_y * (lower - upper)
    left, right = ops.split(taken, 2, axis=-1)
    taken = left + part_x * (right - left)
    taken = ops.einsum("hn,bnwc->bhwc", _downsampling(height), taken)
    return ops.einsum("wn,bhnc->bhwc", _downsampling(width), taken)


def _upsampling(size):
    """Matrix (4 * (size - 1), size): one period of a line that is reflected for ever, at twice its resolution."""
    period = max(2 * (size - 1), 1)
    matrix = np.zeros((2 * period, size), "float32")
    for n in range(2 * period):
        for source in range((n - _MARGIN) // 2, (n + _MARGIN) // 2 + 1):
            if 0 <= n + _CENTER - 2 * source < len(_LOW_PASS):
                place = source % period
                matrix[n, min(place, period - place)] += 2 * _LOW_PASS[n + _CENTER - 2 * source]
    return ops.convert_to_tensor(matrix)


def _downsampling(size):
    """Matrix (size, 2 * size + 2 * _MARGIN), the inverse of upsampling on what has that margin."""
    matrix = np.zeros((size, 2 * size + 2 * _MARGIN), "float32")
    for i in range(size):
        first = 2 * i + _MARGIN - _CENTER
        matrix[i, first : first + len(_LOW_PASS)] = _LOW_PASS
    return ops.convert_to_tensor(matrix)


def _color(images, pick, uniforms, normals):
    def per_image(name, value, neutral):
        return ops.reshape(pick(name, value, neutral), (-1, 1, 1, 1))

    brightness = per_image("brightness", 0.2 * normals[0], 0.0)
    contrast = per_image("contrast", 2.0 ** (0.5 * normals[1]), 1.0)
    sign = per_image("luma_flip", 1.0 - 2.0 * ops.floor(2.0 * uniforms[0]), 1.0)
    luma = ops.mean(images, axis=-1, keepdims=True)
    changed = sign * contrast * (luma + brightness)
    if images.shape[-1] == 1:
        return changed
    angle = per_image("hue", 2 * math.pi * (uniforms[1] - 0.5), 0.0)
    saturation = per_image("saturation", 2.0 ** normals[2], 1.0)
    chroma = images - luma
    # The cross product of the gray axis and the chroma, which the rotation by a quarter would give.
    crossed = (ops.roll(chroma, 1, axis=-1) - ops.roll(chroma, -1, axis=-1)) / math.sqrt(3)
    return changed + contrast * saturation * (ops.cos(angle) * chroma + ops.sin(angle) * crossed)
