"""Differentiable changes of real and generated images, for small data sets."""

from keras import ops

OPERATIONS = ("color", "translation", "cutout")
UNIFORMS = 7  # Random numbers per image. The same for any choice of operations, so that draws do not depend on it.


def diff_augment(images, uniforms, operations):
    """Applies DiffAugment: random changes to every image that the discriminator sees, real or generated.

    `color`: brightness + U[-0.5, 0.5), saturation * U[0, 2), contrast * U[0.5, 1.5), each about its mean;
    `translation`: by up to an eighth of each side, zeros move in; `cutout`: a square of half of each side becomes 0.

    Args:
        images: (B, H, W, C) in [-1, 1].
        uniforms: (B, 7) in [0, 1): the random numbers.
        operations: Names among `OPERATIONS`, applied in that order whatever the order given.

    Returns:
        (B, H, W, C), differentiable in `images`; `color` may leave [-1, 1].

    Raises:
        ValueError: An operation is unknown.

    Source: Zhao et al. 2020, https://arxiv.org/abs/2006.10738.
    """
    check_operations(operations)
    if "color" in operations:
        images = _color(images, uniforms[:, 0:3])
    if "translation" in operations:
        images = _translation(images, uniforms[:, 3:5])
    if "cutout" in operations:
        images = _cutout(images, uniforms[:, 5:7])
    return images


def flip_and_translate(images, uniforms):
    """Mirrors half of the images left to right and moves each by up to an eighth of each side, reflected at the edges.

    Args:
        images: (B, H, W, C).
        uniforms: (B, 3) in [0, 1): the random numbers.

    Returns:
        (B, H, W, C), differentiable in `images`.

    Source: the change T of consistency regularization, Zhang et al. 2020 (CR-GAN), https://arxiv.org/abs/1910.12027.
    """
    is_flipped = ops.reshape(uniforms[:, 0] < 0.5, (-1, 1, 1, 1))
    return _translation(ops.where(is_flipped, ops.flip(images, axis=2), images), uniforms[:, 1:3], reflect=True)


def _color(images, uniforms):
    brightness, saturation, contrast = (ops.reshape(uniforms[:, i], (-1, 1, 1, 1)) for i in range(3))
    images = images + (brightness - 0.5)
    gray = ops.mean(images, axis=-1, keepdims=True)
    images = (images - gray) * (2.0 * saturation) + gray
    mean = ops.mean(images, axis=(1, 2, 3), keepdims=True)
    return (images - mean) * (contrast + 0.5) + mean


def _translation(images, uniforms, reflect=False):
    _, height, width, _ = images.shape
    rows, columns = (_shift(size, uniforms[:, i], reflect) for i, size in enumerate((height, width)))
    # A product with 0-1 matrices, not a gather: exact, its gradient is another product, and XLA compiles it well.
    images = ops.einsum("bij,bjwc->biwc", ops.cast(rows, images.dtype), images)
    return ops.einsum("bij,bhjc->bhic", ops.cast(columns, images.dtype), images)


def _shift(size, uniform, reflect):
    """Matrices (B, size, size) that move a line by -size/8 to size/8 places, with zeros or its reflection behind it."""
    most = max(round(size / 8), 1)
    by = ops.floor(uniform * (2 * most + 1)) - most
    target, source = ops.arange(size, dtype="float32")[None, :, None], ops.arange(size, dtype="float32")[None, None, :]
    place = target + by[:, None, None]
    return ops.equal(source, (size - 1) - ops.abs((size - 1) - ops.abs(place)) if reflect else place)


def _cutout(images, uniforms):
    _, height, width, _ = images.shape
    inside = [_span(size, uniforms[:, i]) for i, size in enumerate((height, width))]
    hole = ops.logical_and(inside[0][:, :, None], inside[1][:, None, :])
    return ops.where(hole[..., None], ops.zeros_like(images), images)


def _span(size, uniform):
    """Places (B, size) inside a span of half the side around a random center, which may reach over the edge."""
    half = size // 2
    center = ops.floor(uniform * (size + 1 - half % 2))
    place = ops.arange(size, dtype="float32")[None, :]
    start = center[:, None] - half // 2
    return ops.logical_and(place >= start, place < start + half)


def check_operations(operations):
    """Returns the names of operations as a tuple; raises ValueError for one that does not exist."""
    unknown = sorted(set(operations) - set(OPERATIONS))
    if unknown:
        raise ValueError(f"`augmentation` must be among {OPERATIONS}. Received: {unknown}.")
    return tuple(operations)
