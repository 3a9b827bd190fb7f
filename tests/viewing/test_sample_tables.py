"""Tables show the seeds and classes of their titles."""

import numpy as np
import pytest
from export.generators import make_toy_generator

from sagan_tf.generation.folding import fold_generator
from sagan_tf.generation.sampler import Sampler
from sagan_tf.viewing import sample_tables

CLASSES = {3: "ring", 0: "disc", 4: "a/b c"}


@pytest.fixture(scope="module")
def sampler():
    return Sampler(fold_generator(make_toy_generator()))


@pytest.fixture(scope="module")
def unconditional():
    return Sampler(fold_generator(make_toy_generator(None)))


def test_sample_class_grid_has_one_row_per_class(sampler):
    table = sample_tables.class_grid(sampler, CLASSES, range(5, 7), 1.5)
    assert table.row_titles == tuple(CLASSES.values()) and table.column_titles == ("seed 5", "seed 6")
    for row, label in enumerate(CLASSES):
        np.testing.assert_array_equal(table.images[row], sampler.sample([5, 6], [label] * 2, 1.5))


def test_sample_class_grid_holds_seeds_in_order_without_classes(unconditional):
    table = sample_tables.class_grid(unconditional, None, range(16))
    np.testing.assert_array_equal(table.images.reshape(16, 32, 32, 3), unconditional.sample(range(16)))
    assert table.row_titles == ("seeds 0 .. 7", "seeds 8 .. 15")


def test_sample_truncation_sweep_ends_in_the_untruncated_sample(sampler):
    table = sample_tables.truncation_sweep(sampler, CLASSES, 2, (0.5, 2.0, 6.0))
    assert table.column_titles == ("0.5", "2", "none")
    for row, label in enumerate(CLASSES):
        np.testing.assert_array_equal(table.images[row, 2], sampler.sample([2], [label])[0])
        assert (table.images[row, 0] != table.images[row, 1]).any()


def test_sample_direction_strips_move_the_latent_of_a_seed(sampler, unconditional):
    rng, distances = np.random.default_rng(0), (-2.0, 0.0, 0.5)
    directions = {"one": rng.standard_normal(12), "two": rng.standard_normal(12)}
    for each, classes in ((sampler, CLASSES), (sampler, {3: "ring"}), (unconditional, None)):
        table = sample_tables.direction_strips(each, classes, 7, directions, distances, 1.5)
        assert table.column_titles == ("-2", "0", "+0.5")
        rows = [(name, label) for name in directions for label in classes or [None]]
        for row, (name, label) in enumerate(rows):
            title = name if classes is None or len(classes) == 1 else f"{name}, {classes[label]}"
            assert table.row_titles[row] == title
            labels = None if label is None else [label]
            np.testing.assert_array_equal(table.images[row, 1], each.sample([7], labels, 1.5)[0])
            latent, *condition = each.inputs([7], labels, 1.5)
            moved = each._run([latent + np.float32(0.5 * directions[name]), *condition])[0]
            np.testing.assert_array_equal(table.images[row, 2], moved[0])
            assert (table.images[row, 0] != table.images[row, 1]).any()


def test_sample_interpolations_start_and_end_in_samples(sampler, unconditional):
    fractions = np.linspace(0, 1, 3)
    table = sample_tables.latent_interpolations(sampler, CLASSES, 2, fractions)
    for row, label in enumerate(CLASSES):
        np.testing.assert_array_equal(table.images[row, [0, -1]], sampler.sample([2, 3], [label] * 2))
    table = sample_tables.class_interpolations(sampler, CLASSES, 2, fractions)
    assert table.row_titles == ("ring to disc", "disc to a/b c", "a/b c to ring")
    np.testing.assert_array_equal(table.images[:, 0], sampler.sample([2] * 3, [3, 0, 4]))
    np.testing.assert_array_equal(table.images[:, -1], sampler.sample([2] * 3, [0, 4, 3]))
    table = sample_tables.latent_interpolations(unconditional, None, 2, fractions)
    np.testing.assert_array_equal(table.images[:, 0], unconditional.sample(range(2, 10)))
    table = sample_tables.class_interpolations(sampler, {0: "a", 1: "b"}, 0, fractions)
    assert len(table.images) == 1  # the reverse path would be the same
    with pytest.raises(ValueError, match="Received"):
        sample_tables.class_interpolations(sampler, {0: "a"}, 0, fractions)


def test_sample_interpolation_loop_passes_all_stops_without_a_jump(sampler):
    stops = [(0, 1), (1, 1), (5, 3)]
    frames = sample_tables.interpolation_loop(sampler, stops, 6)
    assert len(frames) == 18
    np.testing.assert_array_equal(frames[::6], sampler.sample([0, 1, 5], [1, 1, 3]))
    steps = abs(np.diff(np.concatenate([frames, frames[:1]]).astype(float), axis=0)).mean(axis=(1, 2, 3))
    jumps = abs(np.diff(frames[[0, 6, 12, 0]].astype(float), axis=0)).mean(axis=(1, 2, 3))
    assert steps.max() < jumps.max()


def test_sample_file_name_holds_class_and_seed():
    assert sample_tables.file_name(4, "a/b c", 17) == "class_0004_a_b_c_seed_00000017.png"
    assert sample_tables.file_name(12, "../..", 17) == "class_0012_seed_00000017.png"
    assert sample_tables.file_name(None, None, 17) == "seed_00000017.png"


def test_titles_of_all_tables_state_the_truncation(sampler):
    arguments = sampler, CLASSES, 0
    directions = {"up": np.ones(sampler.latent_dim)}
    for truncation, end in ((0.5, ", truncation 0.5"), (6.0, "")):
        tables = (
            sample_tables.class_grid(sampler, CLASSES, range(2), truncation),
            sample_tables.latent_interpolations(*arguments, (0.0, 1.0), truncation),
            sample_tables.class_interpolations(*arguments, (0.0, 1.0), truncation),
            sample_tables.direction_strips(*arguments, directions, (0.0, 1.0), truncation),
        )
        assert all(table.title.endswith(end) and ("truncation" in table.title) == bool(end) for table in tables)
