"""Decodes encoded pictures to square uint8 images."""

from __future__ import annotations

import tensorflow as tf


def decode_square(encoded, size, channels=3, resize="bilinear"):
    """Decodes a picture, crops its largest central square and resizes that.

    Only the square of a JPEG is decoded. Transparent parts of a PNG become white.

    Args:
        encoded: Scalar string tensor, the bytes of a JPEG, PNG, BMP or GIF (first frame).
        size: Height and width of the result in px.
        channels: 1 (grey, ITU-R BT.601 luma) or 3 (RGB).
        resize: Filter of `tf.image.resize`; antialiased.

    Returns:
        uint8 tensor (size, size, channels).

    Raises:
        tf.errors.InvalidArgumentError: The bytes are not a complete picture.
    """
    square = tf.cond(tf.io.is_jpeg(encoded), lambda: _decode_jpeg_square(encoded), lambda: _decode_other(encoded))
    return resize_square(square, size, channels, resize)


def resize_square(square, size, channels=3, resize="bilinear"):
    """Resizes uint8 RGB (S, S, 3) to uint8 (size, size, channels), rounded to the nearest level."""
    image = tf.cast(square, tf.float32)
    if channels == 1:
        image = tf.tensordot(image, tf.constant([[0.299], [0.587], [0.114]]), 1)
    image = tf.image.resize(image, [size, size], method=resize, antialias=True)
    image = tf.clip_by_value(tf.round(image), 0.0, 255.0)  # Bicubic and Lanczos overshoot.
    return tf.ensure_shape(tf.cast(image, tf.uint8), [size, size, channels])


def _decode_jpeg_square(encoded):
    top, left, side = _central_square(tf.io.extract_jpeg_shape(encoded))
    return tf.io.decode_and_crop_jpeg(encoded, tf.stack([top, left, side, side]), channels=3)


def _decode_other(encoded):
    is_png = tf.strings.substr(encoded, 0, 4) == b"\x89PNG"
    image = tf.cond(
        is_png,
        lambda: _blend_on_white(tf.io.decode_png(encoded, channels=4)),
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )
    top, left, side = _central_square(tf.shape(image))
    return image[top : top + side, left : left + side]


def _central_square(shape):
    side = tf.minimum(shape[0], shape[1])
    return (shape[0] - side) // 2, (shape[1] - side) // 2, side


def _blend_on_white(image):
    # The colour of transparent pixels is arbitrary, often black; browsers show a white page.
    colour, alpha = tf.cast(image[..., :3], tf.float32), tf.cast(image[..., 3:], tf.float32) / 255.0
    return tf.cast(tf.round(colour * alpha + 255.0 * (1.0 - alpha)), tf.uint8)
