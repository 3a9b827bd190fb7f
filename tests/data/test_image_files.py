"""Image files: damaged metadata around intact pixels, and the depths of TIFF."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageOps
from small_data import open_small, save_picture

from sagan_tf.data.image_files import load_image, read_image
from sagan_tf.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
TURNED = b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"  # Entry of EXIF: orientation 6.


def exif(*entries, offset=8):
    return b"Exif\0\0II*\0" + struct.pack("<IH", offset, len(entries)) + b"".join(entries) + b"\0\0\0\0"


DAMAGED_EXIF = {
    "empty": b"Exif\0\0",
    "cut": exif(TURNED)[:20],
    "beyond the end": exif(offset=2**31),
    "no header": b"Exif\0\0abcdefgh",
    "orientation of text": exif(b"\x12\x01\x02\0\x02\0\0\0a\0\0\0"),
    "resolution of text": exif(TURNED, b"\x1a\x01\x02\0\x01\0\0\0a\0\0\0"),
    "negative resolution": exif(TURNED, b"\x1a\x01\x06\0\x01\0\0\0\xff\0\0\0"),
    "unit of bytes": exif(TURNED, b"\x28\x01\x01\0\x01\0\0\0a\0\0\0"),
    "description of a float": exif(b"\x0e\x01\x0b\0\x01\0\0\0\0\0\0\0", TURNED),
    "negative place": exif(TURNED, b"\x69\x87\x06\0\x01\0\0\0\xff\0\0\0"),
}


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
@pytest.mark.parametrize("content", DAMAGED_EXIF.values(), ids=DAMAGED_EXIF)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_exif_leaves_the_pixels(tmp_path, suffix, content):
    options = {"lossless": True} if suffix == "webp" else {}
    save_picture(tmp_path / f"plain.{suffix}", PIXELS, **options)
    save_picture(tmp_path / f"a.{suffix}", PIXELS, exif=content, **options)
    plain = read_image(tmp_path / f"plain.{suffix}", (8, 8, 3))
    # Some readers find the orientation before the damage, others give up.
    expected = [plain, np.rot90(plain, -1)] if TURNED in content else [plain]
    image = read_image(tmp_path / f"a.{suffix}", (8, 8, 3))
    assert any((image == pixels).all() for pixels in expected)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("suffix", ["png", "webp", "jpg", "tif"])
def test_orientations_are_those_of_pillow(tmp_path, orientation, suffix):
    entries, path = Image.Exif(), tmp_path / f"a.{suffix}"
    entries[0x0112] = orientation
    save_picture(path, PIXELS, exif=entries)
    with Image.open(path) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(read_image(path, (8, 8, 3)), expected)


def write_tiff(path, bits, photometric, content, more=None):
    """Writes a little-endian uncompressed TIFF of 8x8 gray pixels; `more` tags are numbers too."""
    tags = {256: 8, 257: 8, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 8, 279: len(content)}
    entries = sorted((tags | (more or {})).items())
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, v) for tag, v in entries)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(content)) + content + directory + b"\0\0\0\0")


def pack(values, bits):
    """Packs numbers into bytes: 12 bits from the highest bit on, 8 and 16 bits in little-endian order."""
    if bits == 12:
        return int("".join(f"{value:012b}" for value in values), 2).to_bytes(len(values) * 12 // 8, "big")
    return np.asarray(values, f"<u{bits // 8}").tobytes()


@pytest.mark.parametrize(("bits", "photometric"), [(8, 0), (8, 1), (12, 1), (16, 0), (16, 1)])
def test_gray_tiffs_of_all_depths_have_the_same_levels(tmp_path, bits, photometric):
    shares = np.linspace(0, 1, 64)
    stored = np.round((shares if photometric else 1 - shares) * (2**bits - 1)).astype(int)
    write_tiff(tmp_path / "a.tif", bits, photometric, pack(stored, bits))
    levels = load_image(tmp_path / "a.tif", (8, 8, 1)).ravel()
    assert levels[0] == 0 and levels[-1] == 255
    np.testing.assert_allclose(levels, 255 * shares, atol=1)


@pytest.mark.parametrize("tag", [273, 700])  # place of the pixels, which is a number, and XMP, which is none
def test_tags_of_another_type_make_a_tiff_unreadable(tmp_path, tag):
    write_tiff(tmp_path / "a.tif", 8, 1, bytes(64), {700: 1})
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[content.index(struct.pack("<HH", tag, 4)) + 2] = 11  # float
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UserError, match="1 of 1 files cannot be read: .*a.tif"):
        open_small(tmp_path, corrupt="skip")


@pytest.mark.parametrize("bits", [8, 16])
def test_signed_tiffs_are_refused(tmp_path, bits):
    write_tiff(tmp_path / "a.tif", bits, 1, bytes(64 * bits // 8), {339: 2})
    with pytest.raises(ValueError, match="signed"):
        load_image(tmp_path / "a.tif", (8, 8, 1))
