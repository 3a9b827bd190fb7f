"""Large folders of images: decoded once, in threads, and again only where they change."""

import os

import numpy as np
import pytest
from small_data import open_small

from sagan_tf.data import checked_files, folders
from sagan_tf.data.pipeline import make_dataset
from sagan_tf.data.sources import translate_data_errors
from sagan_tf.errors import UserError

ON_DISK = {"memory_limit_gib": 0.0}


@pytest.fixture
def decoded(monkeypatch, tmp_path):
    """Names of the files that were decoded; the cache is empty."""
    monkeypatch.setattr(checked_files, "MIN_FILES", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names, read = [], folders.read_image

    def record(path, image_shape):
        names.append(os.path.relpath(path, tmp_path))
        return read(path, image_shape)

    monkeypatch.setattr(folders, "read_image", record)
    return names


def reopen(folder, decoded, **options):
    decoded.clear()
    return open_small(folder, **ON_DISK, **options)


def test_folder_on_disk_is_decoded_once_and_changed_files_again(class_folders, decoded, tmp_path):
    first = reopen(class_folders, decoded)
    assert len(decoded) == 10
    again = reopen(class_folders, decoded)
    assert decoded == [] and again.files == first.files and again.class_counts == (5, 5)
    file = class_folders / "b" / "3.png"
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    (class_folders / "a" / "0.png").rename(class_folders / "a" / "new.png")
    reopen(class_folders, decoded)
    assert sorted(decoded) == ["data/a/new.png", "data/b/3.png"]
    (cache,) = (tmp_path / "cache" / "sagan_tf" / "checked_files").iterdir()
    cache.write_bytes(os.urandom(101))
    reopen(class_folders, decoded)
    assert len(decoded) == 10


def test_unreadable_files_are_named_at_every_start(class_folders, decoded):
    file = class_folders / "b" / "3.png"
    content = file.read_bytes()
    file.write_bytes(content[:50])
    for _ in range(2):
        with pytest.raises(UserError, match="1 of 10 files cannot be read: .*3.png"):
            reopen(class_folders, decoded)
    assert decoded == ["data/b/3.png"]
    assert reopen(class_folders, decoded, corrupt="skip").num_images == 9 and decoded == ["data/b/3.png"]
    file.write_bytes(content)
    assert reopen(class_folders, decoded).num_images == 10


def test_interrupted_check_continues(class_folders, decoded, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(folders, "TOGETHER", 1)
        read = folders.read_image

        def stop(path, image_shape):
            if path.endswith("b/0.png"):
                raise KeyboardInterrupt
            return read(path, image_shape)

        patch.setattr(folders, "read_image", stop)
        with pytest.raises(KeyboardInterrupt):
            reopen(class_folders, decoded)
    reopen(class_folders, decoded)
    assert sorted(decoded) == [f"data/b/{i}.png" for i in range(5)]


def test_image_damaged_after_the_check_is_named(class_folders, decoded):
    source = reopen(class_folders, decoded)
    (class_folders / "b" / "3.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="b/3.png: not an image"), translate_data_errors("data"):
        next(iter(make_dataset(source, 10)))


@pytest.mark.parametrize("options", [{}, ON_DISK])
def test_images_read_in_threads_keep_their_order(class_folders, monkeypatch, options):
    expected = [folders.load_image(path, (32, 32, 3)) for path in open_small(class_folders).files]
    monkeypatch.setattr(folders, "TOGETHER", 1)
    (images, _), *_ = open_small(class_folders, **options).reader.in_order_batches(10)
    np.testing.assert_array_equal(images, expected)
