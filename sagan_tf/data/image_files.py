"""Image files: reads any format, depth and orientation as 8-bit RGB or gray of one size."""

from __future__ import annotations

import functools
import struct

import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError, features

from sagan_tf.data.decoding import central_box, decode_png, resize_image
from sagan_tf.data.threads import Budget

_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")  # by their names in Pillow
_NOT_IMAGES = (".avifs", ".pfm")  # suffixes of the same formats: films, and numbers of any range
# What Pillow and TensorFlow raise for a damaged image.
UNREADABLE = (
    *(OSError, ValueError, TypeError, SyntaxError, RuntimeError, EOFError, struct.error),
    *(Image.DecompressionBombError, tf.errors.OpError),
)
_DECODING = Budget(1 << 27)  # pixels; all threads together
MAX_PIXELS = 1 << 26  # of an image, a quarter with 16 bits per channel: decoding takes up to 35 and 85 bytes per pixel
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation


def reason_in_one_line(error):
    """The text of an error of `UNREADABLE`, without what TensorFlow adds, and without the path."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a format that is read"
    return " ".join(str(error).split("}} ")[-1].split(" [Op")[0].split())[:120]


@functools.cache
def _formats():
    """Those of the formats that the installed Pillow reads."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN and (name != "JPEG2000" or features.check("jpg_2000"))]


@functools.cache
def image_suffixes():
    """Suffixes of the files that are read."""
    formats, known = _formats(), Image.registered_extensions().items()
    return tuple(sorted(suffix for suffix, name in known if name in formats and suffix not in _NOT_IMAGES))


def open_image(path):
    """Opens a file, of the formats that are read, as a PIL.Image; the pixels are not decoded yet.

    Raises one of `UNREADABLE` for a damaged file, one of another format, signed or 32 bits per channel, or too many
    pixels.
    """
    image = Image.open(path, formats=_formats())
    is_signed = image.format == "TIFF" and 2 in image.tag_v2.get(TiffImagePlugin.SAMPLEFORMAT, ())
    if image.mode == "F" or is_signed or (image.mode == "I" and image.format == "TIFF"):
        image.close()
        raise ValueError("signed numbers or 32 bits per channel, whose range is unknown")
    most = MAX_PIXELS // 4 if _is_deep_png(image) else MAX_PIXELS
    if (pixels := image.width * image.height) > most:
        image.close()
        raise ValueError(f"{pixels / 1e6:.0f} megapixels, of at most {most / 1e6:.0f}")
    return image


def _is_deep_png(image):
    # A PNG without pixels has no tile; decoding it fails.
    return image.format == "PNG" and bool(image.tile) and image.tile[0].args.endswith(";16B")


def load_image(path, image_shape, resize="bilinear"):
    """Reads the largest central part of a file of any format, mode and EXIF orientation, and resizes it.

    Args:
        path: Path of the file.
        image_shape: (height, width, channels) of the result; 1 channel (gray) or 3 (RGB).
        resize: Filter of `tf.image.resize`; antialiased.

    Returns:
        uint8 array of `image_shape`.

    Raises one of `UNREADABLE` for a damaged file, and as `open_image`.
    """
    return resize_image(read_image(path, image_shape), image_shape, resize).numpy()


def read_image(path, image_shape):
    """Reads the largest central part of a file with the aspect of `image_shape` as uint8 RGB (H, W, 3).

    Raises one of `UNREADABLE`, as `load_image`.
    """
    with open_image(path) as image, _DECODING.use(image.width * image.height):
        is_deep_png, black_and_white = _is_deep_png(image), _black_and_white(image)
        image.load()  # Metadata may follow the pixels, and Pillow turns a TIFF here.
        transposition = _transposition(image)
        if is_deep_png:
            image = _read_deep_png(path)
        if transposition is not None:
            image = image.transpose(transposition)
        return _crop(image, image_shape, *black_and_white)


def _black_and_white(image):
    """Returns the values of black and white in modes of more than 8 bits; Pillow scales all but those of TIFF."""
    if image.format != "TIFF":
        return 0, 65535
    white = (1 << image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]) - 1
    return (white, 0) if image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0 else (0, white)


def _transposition(image):
    """Returns what turns an image upright, or None. `ImageOps.exif_transpose` writes EXIF, which fails on damage."""
    try:
        return _TO_UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # Pillow raises many kinds; the pixels may be intact
        return None


def _read_deep_png(path):
    """Reads 16 bits per channel, of which Pillow drops eight, or the transparency, before it blends."""
    with open(path, "rb") as file:
        return Image.fromarray(decode_png(file.read()).numpy())


def _crop(image, image_shape, black=0, white=65535):
    """Returns the central part as uint8 RGB (H, W, 3): deep gray scaled down, transparency on white."""
    top, left, rows, columns = central_box(image.height, image.width, image_shape)
    image = image.crop((left, top, left + columns, top + rows))
    if image.mode.startswith("I"):
        shares = (np.asarray(image, np.float64) - black) / (white - black)
        image = Image.fromarray((255.0 * shares).round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))
