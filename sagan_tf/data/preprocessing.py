"""Encoded pictures to square uint8, and uint8 to [-1, 1] and back; knows nothing of files or data sets."""

from __future__ import annotations

import tensorflow as tf

RESIZE_METHODS = ("bilinear", "area", "bicubic", "lanczos3", "nearest")
_FLIP_STREAM, _NOISE_STREAM = 1, 2  # Folded into the key of a step, so that its random draws are independent.


def decode_square(encoded, size, channels=3, resize="bilinear"):
    """Decodes a picture, takes its largest central square and resizes that.

    Of a JPEG only the square is decoded. Transparent parts of a PNG become white.

    Args:
        encoded: Bytes of a JPEG, PNG, BMP or GIF (its first frame), scalar string tensor.
        size: Height and width of the result in px.
        channels: 1 (grey, ITU-R BT.601 luma) or 3 (RGB).
        resize: One of `RESIZE_METHODS`; antialiased but for `nearest`.

    Returns:
        uint8 tensor (size, size, channels).

    Raises:
        tf.errors.InvalidArgumentError: The bytes are no whole picture.
    """
    square = tf.cond(tf.io.is_jpeg(encoded), lambda: _jpeg_square(encoded), lambda: _other_square(encoded))
    return resize_square(square, size, channels, resize)


def resize_square(square, size, channels=3, resize="bilinear"):
    """Resizes a square RGB picture, antialiased but for `nearest`.

    Args:
        square: uint8 tensor (S, S, 3).
        size: Height and width of the result in px.
        channels: 1 or 3.
        resize: One of `RESIZE_METHODS`.

    Returns:
        uint8 tensor (size, size, channels), rounded to the nearest level.

    Raises:
        ValueError: `resize` or `channels` is not one of those above.
    """
    if resize not in RESIZE_METHODS or channels not in (1, 3):
        raise ValueError(
            f"`resize` must be one of {RESIZE_METHODS} and `channels` 1 or 3. "
            f"Received: resize={resize!r}, channels={channels!r}"
        )
    picture = tf.cast(square, tf.float32)
    if channels == 1:
        picture = tf.tensordot(picture, tf.constant([[0.299], [0.587], [0.114]]), 1)
    picture = tf.image.resize(picture, [size, size], method=resize, antialias=resize != "nearest")
    picture = tf.clip_by_value(tf.round(picture), 0.0, 255.0)  # Bicubic and Lanczos overshoot.
    return tf.ensure_shape(tf.cast(picture, tf.uint8), [size, size, channels])


def to_float(images):
    """Maps grey levels 0 .. 255 to [-1, 1].

    Args:
        images: uint8 tensor or array, any shape.

    Returns:
        float32 tensor of that shape, 2 x / 255 - 1.
    """
    return tf.cast(images, tf.float32) * (2.0 / 255.0) - 1.0


def to_uint8(images):
    """Maps [-1, 1] to grey levels 0 .. 255: rounded, and clipped where a value lies outside.

    Args:
        images: floating-point tensor or array, any shape.

    Returns:
        uint8 tensor of that shape; the inverse of `to_float` for all 256 levels.
    """
    levels = tf.round((tf.cast(images, tf.float32) + 1.0) * 127.5)
    return tf.cast(tf.clip_by_value(levels, 0.0, 255.0), tf.uint8)


def finish_batch(images, seed, step, *, flip=False, dequantize=False):
    """Makes a batch of pictures ready for the networks; a pure function of its arguments.

    Args:
        images: uint8 tensor (B, H, W, C), the global batch.
        seed: int64 scalar, the seed of the run.
        step: int64 scalar, the number of the batch.
        flip: Mirror each picture left to right with probability 1/2.
        dequantize: Add noise u from U[0, 1) to each level: (x + u) / 128 - 1.

    Returns:
        float32 tensor (B, H, W, C) in [-1, 1].
    """
    key = tf.stack([tf.cast(seed, tf.int64), tf.cast(step, tf.int64)])
    if flip:
        images = _flip(images, tf.random.experimental.stateless_fold_in(key, _FLIP_STREAM))
    if not dequantize:
        return to_float(images)
    noise = tf.random.stateless_uniform(
        tf.shape(images), tf.random.experimental.stateless_fold_in(key, _NOISE_STREAM), alg="philox"
    )
    return (tf.cast(images, tf.float32) + noise) / 128.0 - 1.0


def _flip(images, key):
    chosen = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], key, alg="philox") < 0.5
    return tf.where(chosen, tf.reverse(images, [2]), images)


def _jpeg_square(encoded):
    shape = tf.io.extract_jpeg_shape(encoded)
    side = tf.minimum(shape[0], shape[1])
    window = tf.stack([(shape[0] - side) // 2, (shape[1] - side) // 2, side, side])
    return tf.io.decode_and_crop_jpeg(encoded, window, channels=3)


def _other_square(encoded):
    is_png = tf.strings.substr(encoded, 0, 4) == b"\x89PNG"
    picture = tf.cond(
        is_png,
        lambda: _on_white(tf.io.decode_png(encoded, channels=4)),
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )
    shape = tf.shape(picture)
    side = tf.minimum(shape[0], shape[1])
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    return picture[top : top + side, left : left + side]


def _on_white(picture):
    # The colour below a transparent part is arbitrary (often black or what the editor left); white is what pages show.
    colour, alpha = tf.cast(picture[..., :3], tf.float32), tf.cast(picture[..., 3:], tf.float32) / 255.0
    return tf.cast(tf.round(colour * alpha + 255.0 * (1.0 - alpha)), tf.uint8)
