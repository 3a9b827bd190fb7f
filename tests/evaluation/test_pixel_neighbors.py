"""Nearest neighbors by pixels."""

import io

import numpy as np
import pytest
from tqdm import tqdm

from sagan_tf.data.readers import ArrayReader
from sagan_tf.evaluation import pixel_neighbors as module


@pytest.mark.parametrize("size", [8, 65])
def test_pixel_neighbors_match_all_distances(size, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 7)
    bars = []

    def progress_bar(**options):
        bars.append(tqdm(**options | {"file": io.StringIO()}))
        return bars[-1]

    monkeypatch.setattr(module, "progress_bar", progress_bar)
    rng = np.random.default_rng(0)
    images, queries = (rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8) for count in (20, 4))
    distances, indices = module.pixel_neighbors(queries, ArrayReader(images, None), 3, 100)
    assert [(bar.n, bar.total) for bar in bars] == [(20, 20)]
    small = [np.float64(each) for each in (images, queries)]
    if size == 65:  # averaged over 2x2, without the last row and column
        small = [each[:, :64, :64].reshape(len(each), 32, 2, 32, 2, 3).mean((2, 4)) for each in small]
    expected = np.sqrt(np.square(small[1][:, None] - small[0]).mean((2, 3, 4)))
    np.testing.assert_array_equal(indices, np.argsort(expected, axis=1)[:, :3])
    np.testing.assert_allclose(distances, np.sort(expected, axis=1)[:, :3], rtol=1e-9)


def test_pixel_neighbors_search_evenly_spaced_images_up_to_the_limit():
    images = np.repeat(np.arange(21, dtype=np.uint8), 3).reshape(21, 1, 1, 3)
    distances, indices = module.pixel_neighbors(images[[3, 20]], ArrayReader(images, None), 5, 5)
    np.testing.assert_array_equal(np.sort(indices, axis=1), [[0, 5, 10, 15, 20]] * 2)
    np.testing.assert_allclose(distances[:, 0], [2, 0])
