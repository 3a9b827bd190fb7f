"""Decodes encoded images to uint8 images of one size."""

from __future__ import annotations

import tensorflow as tf


def decode_image(encoded, image_shape, resize="bilinear"):
    """Decodes an image, crops its largest central part of the same aspect as the result and resizes that.

    A JPEG gives the levels that Pillow gives: the inverse transform is the exact one, and the whole image is decoded,
    since the color of the last column of a part would lack its neighbors'. Transparent parts of a PNG become white.

    Args:
        encoded: Scalar string tensor, the bytes of a JPEG, PNG, BMP or GIF (first frame).
        image_shape: (height, width, channels) of the result; 1 channel (gray, ITU-R BT.601 luma) or 3 (RGB).
        resize: Filter of `tf.image.resize`; antialiased.

    Returns:
        uint8 tensor of `image_shape`.

    Raises:
        tf.errors.InvalidArgumentError: The bytes are not a complete image.
    """
    image = tf.case(
        [
            (tf.io.is_jpeg(encoded), lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")),
            (tf.strings.substr(encoded, 0, 4) == b"\x89PNG", lambda: decode_png(encoded)),
        ],
        default=lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )
    height, width, _ = tf.unstack(tf.shape(image, tf.int64))
    top, left, rows, columns = central_box(height, width, image_shape, tf.minimum, tf.maximum)
    return resize_image(image[top : top + rows, left : left + columns], image_shape, resize)


def central_box(height, width, image_shape, minimum=min, maximum=max):
    """Finds the largest central part of an image with the aspect of another; sides are rounded to whole px.

    Args:
        height, width: ints or integer tensors, px.
        image_shape: (height, width, channels) that give the aspect.
        minimum, maximum: Functions of two of these ints or tensors.

    Returns:
        (top, left, rows, columns), px.
    """
    target_height, target_width, _ = image_shape
    rows = minimum(height, maximum((2 * width * target_height + target_width) // (2 * target_width), 1))
    columns = minimum(width, maximum((2 * height * target_width + target_height) // (2 * target_height), 1))
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def decode_png(encoded):
    """Decodes a PNG of 1 to 16 bits to uint8 RGB (H, W, 3): the nearest levels, transparent parts on white."""
    image = tf.cast(tf.io.decode_png(encoded, channels=4, dtype=tf.uint16), tf.float32) / 257.0
    # The color of transparent pixels is arbitrary, often black; browsers show a white page.
    # TensorFlow 2.21 sets the alpha of opaque pixels of fewer than 8 bits to the highest value of these bits.
    bits = tf.io.decode_raw(tf.strings.substr(encoded, 24, 1), tf.uint8)
    opaque = tf.minimum(2.0 ** tf.cast(bits, tf.float32) - 1.0, 255.0)
    alpha = tf.where(image[..., 3:] == opaque, 1.0, image[..., 3:] / 255.0)
    return tf.cast(tf.round(image[..., :3] * alpha + 255.0 * (1.0 - alpha)), tf.uint8)


def resize_image(image, image_shape, resize="bilinear"):
    """Resizes uint8 RGB (H, W, 3) to uint8 of `image_shape`, rounded to the nearest level."""
    image = tf.cast(image, tf.float32)
    if image_shape[2] == 1:
        image = tf.tensordot(image, tf.constant([[0.299], [0.587], [0.114]]), 1)
    image = tf.image.resize(image, image_shape[:2], method=resize, antialias=True)
    image = tf.clip_by_value(tf.round(image), 0.0, 255.0)  # Bicubic and Lanczos overshoot.
    return tf.ensure_shape(tf.cast(image, tf.uint8), image_shape)
