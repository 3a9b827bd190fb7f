"""Images decode to the same levels from folders and from records, as in Pillow."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from sagan_tf.data.decoding import decode_image
from sagan_tf.data.image_files import load_image

DEEP = np.array([[0, 300], [257 * 7 + 129, 65535]], np.uint16)
DEEP_LEVELS = np.array([[0, 1], [8, 255]])  # Over 257, rounded.


@pytest.fixture
def decode(tmp_path):
    """A function that decodes an image in both ways at a size or (height, width); returns uint8 if they agree."""

    def both(encoded, size):
        (tmp_path / "picture").write_bytes(encoded)
        shape = (size, size, 3) if isinstance(size, int) else (*size, 3)
        from_folder = load_image(tmp_path / "picture", shape)
        from_record = decode_image(encoded, shape).numpy()
        np.testing.assert_array_equal(from_folder, from_record)
        return from_folder

    return both


def photograph(height, width):
    """Smooth colors, whose chroma differs between neighbors."""
    coarse = np.random.default_rng(0).integers(0, 255, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encode(picture, format="JPEG", **options):
    with io.BytesIO() as file:
        picture.save(file, format, **options)
        return file.getvalue()


def central_square(encoded):
    with Image.open(io.BytesIO(encoded)) as picture:
        pixels = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    side = min(pixels.shape[:2])
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


@pytest.mark.parametrize("shape", [(64, 64), (97, 131), (64, 97), (131, 50)])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_jpeg_decodes_to_the_levels_of_pillow(decode, shape, subsampling):
    for quality in (30, 95):
        encoded = encode(photograph(*shape), quality=quality, progressive=quality == 30, subsampling=subsampling)
        np.testing.assert_array_equal(decode(encoded, min(shape)), central_square(encoded))


@pytest.mark.parametrize(("shape", "box"), [
    ((40, 60), (0, 0, 60, 40)), ((97, 131), (0, 5, 131, 92)), ((131, 50), (0, 49, 50, 82)),
    ((64, 121), (12, 0, 108, 64)), ((1, 9), (3, 0, 5, 1)),
])  # fmt: skip
def test_central_part_has_the_aspect_and_is_resized_as_by_pillow(decode, shape, box):
    # The boxes (left, top, right, bottom) are 3:2 to the nearest px.
    picture = photograph(*shape)
    expected = picture.crop(box).resize((36, 24), Image.Resampling.BILINEAR)
    assert np.abs(decode(encode(picture, "PNG"), (24, 36)).astype(int) - np.asarray(expected, int)).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotated_jpeg_decodes_to_the_levels_of_pillow(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = encode(photograph(60, 81), quality=80, exif=exif)
    (tmp_path / "rotated.jpg").write_bytes(encoded)
    np.testing.assert_array_equal(load_image(tmp_path / "rotated.jpg", (60, 60, 3)), central_square(encoded))


def deep_png(pixels, transparent=None):
    """Encodes uint16 (H, W, C), C 1 or 3, with `transparent` as its transparent level."""
    height, width, channels = pixels.shape

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 3: 2}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    if transparent is not None:
        parts.insert(1, (b"tRNS", struct.pack(">H", transparent) * channels))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_png_decodes_to_nearest_levels_with_transparency_on_white(decode, channels):
    pixels = np.repeat(DEEP[..., None], channels, -1)
    np.testing.assert_array_equal(decode(deep_png(pixels), 2)[..., 0], DEEP_LEVELS)
    blended = np.where(DEEP == 300, 255, DEEP_LEVELS)
    np.testing.assert_array_equal(decode(deep_png(pixels, transparent=300), 2)[..., 0], blended)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_png_of_every_mode_decodes_alike(decode, mode):
    pixels = np.random.default_rng(0).integers(0, 255, (9, 9, 4), dtype=np.uint8)
    picture = Image.fromarray(pixels).convert("RGBA")
    picture = picture.convert("RGB").quantize(16) if mode == "P" else picture.convert(mode)
    decoded = decode(encode(picture, "PNG"), 9)
    if "A" not in mode:
        np.testing.assert_array_equal(decoded, picture.convert("RGB"))


def test_rotated_16_bit_png_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # By 180 degrees.
    Image.fromarray(DEEP).save(tmp_path / "deep.png", exif=exif)
    np.testing.assert_array_equal(load_image(tmp_path / "deep.png", (2, 2, 1))[..., 0], DEEP_LEVELS[::-1, ::-1])


def test_decode_image_raises_for_truncated_jpeg():
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_image(encode(photograph(64, 64))[:-200], (64, 64, 3))
