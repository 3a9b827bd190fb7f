"""Decodes encoded pictures to square uint8 images."""

from __future__ import annotations

import tensorflow as tf


def decode_square(encoded, size, channels=3, resize="bilinear"):
    """Decodes a picture, crops its largest central square and resizes that.

    A JPEG gives the levels that Pillow gives: the inverse transform is the exact one, and the whole picture is decoded,
    since the colour of the last column of a part would lack its neighbours'. Transparent parts of a PNG become white.

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
    image = tf.case(
        [
            (tf.io.is_jpeg(encoded), lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")),
            (tf.strings.substr(encoded, 0, 4) == b"\x89PNG", lambda: decode_png(encoded)),
        ],
        default=lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )
    side = tf.minimum(tf.shape(image)[0], tf.shape(image)[1])
    top, left = (tf.shape(image)[0] - side) // 2, (tf.shape(image)[1] - side) // 2
    return resize_square(image[top : top + side, left : left + side], size, channels, resize)


def decode_png(encoded):
    """Decodes a PNG of 1 to 16 bits to uint8 RGB (H, W, 3): the nearest levels, transparent parts on white."""
    image = tf.cast(tf.io.decode_png(encoded, channels=4, dtype=tf.uint16), tf.float32) / 257.0
    # The colour of transparent pixels is arbitrary, often black; browsers show a white page.
    # TensorFlow 2.21 sets the alpha of opaque pixels of fewer than 8 bits to the highest value of these bits.
    bits = tf.io.decode_raw(tf.strings.substr(encoded, 24, 1), tf.uint8)
    opaque = tf.minimum(2.0 ** tf.cast(bits, tf.float32) - 1.0, 255.0)
    alpha = tf.where(image[..., 3:] == opaque, 1.0, image[..., 3:] / 255.0)
    return tf.cast(tf.round(image[..., :3] * alpha + 255.0 * (1.0 - alpha)), tf.uint8)


def resize_square(square, size, channels=3, resize="bilinear"):
    """Resizes uint8 RGB (S, S, 3) to uint8 (size, size, channels), rounded to the nearest level."""
    image = tf.cast(square, tf.float32)
    if channels == 1:
        image = tf.tensordot(image, tf.constant([[0.299], [0.587], [0.114]]), 1)
    image = tf.image.resize(image, [size, size], method=resize, antialias=True)
    image = tf.clip_by_value(tf.round(image), 0.0, 255.0)  # Bicubic and Lanczos overshoot.
    return tf.ensure_shape(tf.cast(image, tf.uint8), [size, size, channels])
