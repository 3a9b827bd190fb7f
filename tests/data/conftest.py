"""Folders of images, and what is prepared of them."""

import shutil

import numpy as np
import pytest
from data.prepared_folders import COUNT, make_shards_small, run
from small_data import save_picture


@pytest.fixture
def class_folders(tmp_path):
    """A folder of ten random images in classes `a` and `b`."""
    rng = np.random.default_rng(0)
    for name in "ab":
        for i in range(5):
            save_picture(tmp_path / "data" / name / f"{i}.png", rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
    return tmp_path / "data"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of 40 random images of two classes, and a test split of three."""
    folder, rng = tmp_path_factory.mktemp("source") / "pictures", np.random.default_rng(0)
    for i in range(COUNT + 3):
        parent = folder / ("train" if i < COUNT else "test") / ("kätze" if i % 3 else "犬")
        save_picture(parent / f"{i:02}.png", rng.integers(0, 255, (20, 24, 3), dtype=np.uint8))
    return folder


@pytest.fixture
def small_shards(monkeypatch):
    make_shards_small(monkeypatch)


@pytest.fixture(scope="module")
def raw(pictures, tmp_path_factory):
    """The folder prepared as raw pixels; not to be changed."""
    folder = tmp_path_factory.mktemp("raw") / "out"
    with pytest.MonkeyPatch.context() as patch:
        make_shards_small(patch)
        run(pictures, folder)
    return folder


@pytest.fixture
def copy(raw, tmp_path):
    """A copy of the prepared folder."""
    return shutil.copytree(raw, tmp_path / "copy")
