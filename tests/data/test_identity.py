"""In order: each picture once, from any place, whatever reads it; and a fingerprint that moves with the data."""

import dataclasses
import os

import numpy as np
import pytest
from PIL import Image

from sagan_tf.data.identity import fingerprint
from sagan_tf.data.sources import open_source


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for kind in "ab":
        (tmp_path / "data" / kind).mkdir(parents=True)
        for i in range(5):
            picture = Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
            picture.save(tmp_path / "data" / kind / f"{i}.png")
    return str(tmp_path / "data")


def opened(name, memory_limit_gib=1.0, **options):
    return open_source(name, memory_limit_gib=memory_limit_gib, show_progress=False, **options)


@pytest.mark.parametrize("limit", [1.0, 0.0])
@pytest.mark.parametrize("conditional", [None, False])
def test_batches_in_order_are_the_pictures_in_order(folder, limit, conditional):
    source = opened(folder, limit, conditional=conditional)
    one_by_one = [(np.asarray(load()), label) for load, label in source.reader.in_order()]
    for start in (0, 4):
        batches = list(source.reader.in_order_batches(3, start))
        assert [len(batch[0]) for batch in batches] == ([3, 3, 3, 1] if start == 0 else [3, 3])
        np.testing.assert_array_equal(np.concatenate([b[0] for b in batches]), [im for im, _ in one_by_one[start:]])
        if conditional is None:
            labels = np.concatenate([batch[1] for batch in batches])
            np.testing.assert_array_equal(labels, [label for _, label in one_by_one[start:]])
        else:
            assert all(len(batch) == 1 for batch in batches)


@pytest.mark.parametrize("limit", [1.0, 0.0])
def test_a_fingerprint_moves_with_the_pictures_and_the_labels(folder, limit):
    before = fingerprint(opened(folder, limit))
    assert before == fingerprint(opened(folder, limit)) and len(before) == 64
    assert before != fingerprint(opened(folder, limit, conditional=False))
    path = os.path.join(folder, "a", "0.png")
    with Image.open(path) as file:
        pixels = np.asarray(file).copy()
    pixels[0, 0] = 255 - pixels[0, 0]
    Image.fromarray(pixels).save(path)
    assert before != fingerprint(opened(folder, limit))


def test_a_fingerprint_in_memory_is_of_the_pixels_alone(folder, tmp_path):
    before = fingerprint(opened(folder))
    os.rename(folder, tmp_path / "elsewhere")
    assert fingerprint(opened(str(tmp_path / "elsewhere"))) == before
    source = opened(str(tmp_path / "elsewhere"))
    swapped = dataclasses.replace(source.reader, labels=source.reader.labels[::-1].copy())
    assert fingerprint(dataclasses.replace(source, reader=swapped)) != before
