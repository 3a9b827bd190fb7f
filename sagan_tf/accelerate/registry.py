"""What a training step may lend the layers: one operation of a backend for what they do in many."""

import contextlib
import contextvars

_lent = contextvars.ContextVar("lent", default=None)


@contextlib.contextmanager
def lending(operations):
    """Lends operations to all layers that are called, and differentiated, inside.

    Each may give None for arguments that it does not take; the layer then does without.

    Symbols: B batch, C channels, P rows and F columns of a kernel's matrix; R is B or 1.

    Args:
        operations: dict of functions, or None for nothing.
            normalize: (x (B, ..., C), scale (R, C), offset (R, C), epsilon) -> the batch normalisation of x by its own
                statistics, scaled and shifted, in the dtype of x; their mean (C,) and variance (C,), of all positions
                and not an estimate.
            rectify: (x) -> ReLU of x.
            add_scaled: (x, y, factor) -> x + factor * y, for maps of a shape and a number, or a scalar.
            add_channels: (x (B, ..., C), row (C,)) -> x + row, of their dtype; need not be differentiable.
            sum_channels: (x (B, ..., C)) -> sums over all other axes (C,), float32.
            patches: (x (B, H, W, C), kh, kw, both odd) -> what a kernel of kh*kw meets at each position, with zeros
                around: (B, H, W, kh*kw*C).
            sum_quads: (x (B, 2H, 2W, C), factor) -> sums of 2x2 pixels times the factor (B, H, W, C).
            repeat_quads: (x (B, H, W, C), factor) -> each pixel times the factor, four times (B, 2H, 2W, C).
            singular_vectors: (matrix (P, F), u (F,), power iterations, epsilon) -> u (F,), v (P,) and sigma () after
                them, constants for the gradient, as `SpectralNormalization` defines them.
            scale_kernel: (matrix (P, F), factor (), along (), column (P,), row (F,)) -> matrix * factor in bfloat16,
                with the gradient G * factor - <G, matrix> * along * column row^T of the matrix alone.
    """
    token = _lent.set(operations)
    try:
        yield
    finally:
        _lent.reset(token)


def lent(name, *arguments):
    """Does something by an operation that is lent.

    Args:
        name: One of those of `lending`.
        *arguments: Its own.

    Returns:
        What it gives, or None: it is not lent, or does not take these arguments.
    """
    operation = (_lent.get() or {}).get(name)
    return None if operation is None else operation(*arguments)
