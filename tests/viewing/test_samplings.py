"""Grids, sweeps and ways show the seed and class that their titles say."""

import numpy as np
import pytest
from export.generators import make_generator

from sagan_tf.generation.folding import fold_generator
from sagan_tf.generation.sampler import Sampler
from sagan_tf.viewing import samplings

CLASSES = {3: "ring", 0: "disc", 4: "a/b c"}


@pytest.fixture(scope="module")
def sampler():
    return Sampler(fold_generator(make_generator()))


@pytest.fixture(scope="module")
def unconditional():
    return Sampler(fold_generator(make_generator(None)))


def test_class_grid_is_a_row_a_class(sampler):
    table = samplings.class_grid(sampler, CLASSES, range(5, 7), 1.5)
    assert table.row_titles == tuple(CLASSES.values()) and table.column_titles == ("seed 5", "seed 6")
    for row, label in enumerate(CLASSES):
        np.testing.assert_array_equal(table.images[row], sampler.sample([5, 6], [label] * 2, 1.5))


def test_grid_without_classes_holds_the_seeds_in_order(unconditional):
    table = samplings.class_grid(unconditional, None, range(16))
    np.testing.assert_array_equal(table.images.reshape(16, 32, 32, 3), unconditional.sample(range(16)))
    assert table.row_titles == ("seeds 0 .. 7", "seeds 8 .. 15")


def test_truncation_sweep_moves_along_a_row_and_ends_in_the_sample(sampler):
    table = samplings.truncation_sweep(sampler, CLASSES, 2, (0.5, 2.0, 6.0))
    assert table.column_titles == ("0.5", "2", "none")
    for row, label in enumerate(CLASSES):
        np.testing.assert_array_equal(table.images[row, 2], sampler.sample([2], [label])[0])
        assert (table.images[row, 0] != table.images[row, 1]).any()


def test_ways_between_latents_and_classes_end_in_samples(sampler, unconditional):
    fractions = np.linspace(0, 1, 3)
    table = samplings.latent_ways(sampler, CLASSES, 2, fractions)
    for row, label in enumerate(CLASSES):
        np.testing.assert_array_equal(table.images[row, [0, -1]], sampler.sample([2, 3], [label] * 2))
    table = samplings.class_ways(sampler, CLASSES, 2, fractions)
    assert table.row_titles == ("ring to disc", "disc to a/b c", "a/b c to ring")
    np.testing.assert_array_equal(table.images[:, 0], sampler.sample([2] * 3, [3, 0, 4]))
    np.testing.assert_array_equal(table.images[:, -1], sampler.sample([2] * 3, [0, 4, 3]))
    table = samplings.latent_ways(unconditional, None, 2, fractions)
    np.testing.assert_array_equal(table.images[:, 0], unconditional.sample(range(2, 10)))
    assert len(samplings.class_ways(sampler, {0: "a", 1: "b"}, 0, fractions).images) == 1  # and not back again
    with pytest.raises(ValueError, match="Received"):
        samplings.class_ways(sampler, {0: "a"}, 0, fractions)


def test_ring_stops_at_every_station_and_has_no_jump(sampler):
    stations = [(0, 1), (1, 1), (5, 3)]
    frames = samplings.ring(sampler, stations, 6)
    assert len(frames) == 18
    np.testing.assert_array_equal(frames[::6], sampler.sample([0, 1, 5], [1, 1, 3]))
    steps = abs(np.diff(np.concatenate([frames, frames[:1]]).astype(float), axis=0)).mean(axis=(1, 2, 3))
    whole = abs(np.diff(frames[[0, 6, 12, 0]].astype(float), axis=0)).mean(axis=(1, 2, 3))
    assert steps.max() < whole.max()


def test_file_names_tell_class_and_seed():
    assert samplings.file_name(4, "a/b c", 17) == "class_0004_a_b_c_seed_00000017.png"
    assert samplings.file_name(12, "../..", 17) == "class_0012_seed_00000017.png"
    assert samplings.file_name(None, None, 17) == "seed_00000017.png"
