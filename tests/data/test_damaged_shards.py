"""Prepared folders that are damaged or forged."""

import json
import os

import numpy as np
import pytest
from damage import peak_growth
from data.prepared_folders import ON_DISK, run
from small_data import open_small

from sagan_tf.data import prepared, preparing
from sagan_tf.data.sources import contact_sheet_images, translate_data_errors
from sagan_tf.errors import UserError

pytestmark = pytest.mark.usefixtures("small_shards")


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_damaged_image_is_named(pictures, tmp_path, encoding):
    run(pictures, tmp_path / "out", encoding, quality=95 if encoding == "jpeg" else None)
    shard = tmp_path / "out" / "train" / "shard_00001.bin"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    for options in ({}, ON_DISK):
        with pytest.raises(UserError, match="shard_00001.bin: image .* is damaged"):
            with translate_data_errors("out"):
                list(open_small(tmp_path / "out", **options).reader.in_order_batches(50))
    with pytest.raises(UserError, match="shard_00001.bin: image [0-9]+ is damaged: its checksum is wrong. Remove"):
        with translate_data_errors("out"):
            contact_sheet_images(open_small(tmp_path / "out", **ON_DISK), 10, 10)
    shard.write_bytes(content[:-1])
    with pytest.raises(UserError, match="shard_00001.bin: has .* bytes. It is damaged"):
        open_small(tmp_path / "out")


HUGE = 10**9


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"}, {"options": None}, {"options": {"encoding": "raw", "image_channels": 3}},
        {"num_images": HUGE}, {"num_images": True}, {"num_images": 0}, {"class_names": [1]}, {"class_names": []},
        {"index_sha256": None}, {"shards": {}}, {"shards": [1]}, {"shards": []},
        {"shards": [{"images": 40, "bytes": 2**80, "sha256": "0"}]},
        {"num_images": HUGE, "shards": [{"images": HUGE, "bytes": HUGE * 3072, "sha256": "0"}]},
        {"class_names": ["one"]}, {"num_images": None},
    ],
)  # fmt: skip
def test_hostile_manifest_is_refused(copy, change):
    path = copy / "train" / "prepared.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | change))
    with pytest.raises(UserError, match="prepared.json|shard_0|index.bin|labels are outside"):
        open_small(copy, **ON_DISK)


def test_manifest_of_another_encoding_is_refused(copy):
    path = copy / "train" / "prepared.json"
    path.write_text(path.read_text().replace('"raw"', '"jpeg"'))
    with pytest.raises(UserError, match="out`: an image or record is damaged and cannot be read: Invalid JPEG data"):
        with translate_data_errors("out"):
            open_small(copy)


def rewrite_index(folder, index):
    """Writes an index whose hash is right."""
    path = folder / "prepared.json"
    manifest = json.loads(path.read_text())
    manifest["index_sha256"] = preparing.sha256_of_parts([index.tobytes()])
    path.write_text(json.dumps(manifest))
    (folder / "index.bin").write_bytes(index.tobytes())


@pytest.mark.parametrize(("column", "value"), [("bytes", 2**32 - 1), ("bytes", 0), ("bytes", 100), ("label", -7)])
def test_hostile_index_is_refused(copy, column, value):
    index = np.fromfile(copy / "train" / "index.bin", prepared.INDEX_DTYPE)
    index[column][3] = value
    rewrite_index(copy / "train", index)
    with pytest.raises(UserError, match="index.bin: its images|labels are outside"):
        open_small(copy, **ON_DISK)


@pytest.mark.parametrize("name", ["prepared.json", "index.bin", "shard_00001.bin"])
def test_pipes_and_missing_files_are_refused(copy, name):
    (copy / "train" / name).unlink()
    if name != "prepared.json":
        with pytest.raises(UserError, match=f"{name}: cannot be read"):
            open_small(copy)
    os.mkfifo(copy / "train" / name)
    with pytest.raises(UserError, match=f"{name}: is a pipe"):
        open_small(copy)


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_images_of_another_size_are_not_decoded(pictures, tmp_path, encoding):
    run(pictures, tmp_path / "out", encoding, quality=95 if encoding == "jpeg" else None)
    path, shard = tmp_path / "out" / "train", tmp_path / "out" / "train" / "shard_00000.bin"
    index, content = np.fromfile(path / "index.bin", prepared.INDEX_DTYPE), bytearray(shard.read_bytes())
    # The size follows the type of the chunk IHDR of a PNG, and the length and bits of the frame header of a JPEG.
    at = 16 if encoding == "png" else content.index(b"\xff\xc0") + 5
    width = 4 if encoding == "png" else 2
    content[at : at + 2 * width] = 2 * (16_000).to_bytes(width, "big")
    if encoding == "png":
        content[29:33] = preparing.zlib.crc32(content[12:29]).to_bytes(4, "big")
    shard.write_bytes(content)
    index["crc32"][0] = preparing.zlib.crc32(content[: index["bytes"][0]])
    rewrite_index(path, index)

    def read():
        with pytest.raises(UserError, match="of another size"), translate_data_errors("out"):
            next(open_small(tmp_path / "out", **ON_DISK).reader.in_order_batches(8))

    assert peak_growth(read) < 2**27
