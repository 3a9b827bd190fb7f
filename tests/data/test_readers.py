"""Readers and the stream of training batches: order, exact resuming, and the same images from memory and from disk."""

import numpy as np
import pytest
from damage import tries
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_data import SHARED, needs_shared_data, open_small

from sagan_tf.data.pipeline import make_dataset
from sagan_tf.data.readers import ArrayReader, shuffled_orders
from sagan_tf.data.sources import Source


def numbered_source(count):
    """A source whose images and labels hold their number."""
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    return Source("numbered", "train", ArrayReader(images, np.arange(count, dtype=np.int32)), None, None, (2, 2, 3))


def take(dataset, count):
    return [[part.numpy() for part in element] for element in dataset.take(count)]


def assert_same_batches(first, second):
    for a, b in zip(first, second, strict=True):
        for part, other in zip(a, b, strict=True):
            np.testing.assert_array_equal(part, other)


def orders(count, seed, epochs):
    return np.stack(list(shuffled_orders(count, seed).take(epochs).as_numpy_iterator()))


@pytest.mark.parametrize("count", [50_000, 200_000])
def test_shuffled_orders_are_uniform_and_independent(count, batch=64):
    places = np.argsort(orders(count, 0, 6), axis=1)
    batches, num_batches = places // batch, count // batch + 1
    codes = batches[:-1] * num_batches + batches[1:]  # Of images that share a batch in an epoch and in the next one.

    def count_pairs(groups):
        return sum(sizes @ (sizes - 1.0) for sizes in (np.unique(row, return_counts=True)[1] for row in groups))

    assert count_pairs(codes) / count_pairs(batches[:-1]) / ((batch - 1) / (count - 1)) == pytest.approx(1.0, abs=0.05)
    correlations = [np.corrcoef(*pair)[0, 1] for pair in zip(places, places[1:])]
    assert np.mean(correlations) == pytest.approx(0.0, abs=0.01)


@pytest.mark.slow
@settings(max_examples=20)
@given(count=st.integers(1, 5_000), seed=st.integers(-(2**80), 2**80))
@example(65_537, 0)
@example(262_145, 0)
@example(1_048_577, 0)
def test_shuffled_orders_are_permutations(count, seed):
    for order in orders(count, seed, 2):
        assert (np.bincount(order, minlength=count) == 1).all()


@pytest.mark.slow
def test_shuffled_orders_are_distinct_for_every_seed_and_epoch():
    seeds = [0, 1, 255, 256, 2**31, 2**32, 2**63, 2**64, 2**64 + 1, -1]
    assert len({tuple(order) for seed in seeds for order in orders(100, seed, 400)}) == 4000


def test_shuffled_orders_of_three_are_equally_frequent():
    drawn = np.unique(orders(3, 1, 6_000), axis=0, return_counts=True)[1]
    assert len(drawn) == 6 and ((drawn - 1000) ** 2 / 1000).sum() < 20.5  # Chi-squared, 5 degrees, p = 0.001.


def test_shuffled_orders_are_those_of_earlier_versions():
    np.testing.assert_array_equal(orders(8, 2**40, 2), [[2, 4, 3, 0, 7, 5, 6, 1], [5, 6, 4, 3, 1, 0, 2, 7]])


@pytest.mark.slow
@tries(8)
@given(count=st.integers(1, 40), batch=st.integers(1, 50), seed=st.integers(0, 2**40), start=st.integers(0, 30))
def test_dataset_resumes_bit_exactly_at_any_step(count, batch, seed, start):
    source = numbered_source(count)
    full = take(make_dataset(source, batch, seed=seed), start + 2)
    assert_same_batches(full[start:], take(make_dataset(source, batch, seed=seed, start_step=start), 2))


def test_dataset_is_not_autotuned():
    """TensorFlow's thread that tunes can hold up the end of an iterator by a minute."""
    assert make_dataset(numbered_source(10), 7).options().autotune.enabled is False


def test_dataset_epochs_hold_every_image_once_across_batches():
    labels = np.concatenate([labels for _, labels in take(make_dataset(numbered_source(10), 7), 20)])
    np.testing.assert_array_equal(np.sort(labels.reshape(14, 10)), np.tile(np.arange(10), (14, 1)))


def test_folder_source_is_same_from_memory_and_from_disk(class_folders):
    streams = []
    for memory_limit_gib in (1.0, 0.0):
        source = open_small(class_folders, memory_limit_gib=memory_limit_gib)
        streams.append(take(make_dataset(source, 4, seed=3, start_step=2), 3))
    assert_same_batches(*streams)


@pytest.mark.parametrize("memory_limit_gib", [1.0, 0.0])
@pytest.mark.parametrize("conditional", [None, False])
def test_in_order_batches_hold_the_images_in_order(class_folders, memory_limit_gib, conditional):
    source = open_small(class_folders, memory_limit_gib=memory_limit_gib, conditional=conditional)
    expected = source.reader.load(range(source.num_images))
    for start in (0, 4):
        batches = list(source.reader.in_order_batches(3, start))
        assert [len(batch[0]) for batch in batches] == ([3, 3, 3, 1] if start == 0 else [3, 3])
        images = np.concatenate([batch[0] for batch in batches])
        np.testing.assert_array_equal(images, expected[start:])
        if conditional is None:
            labels = np.concatenate([batch[1] for batch in batches])
            np.testing.assert_array_equal(labels, source.reader.labels[start:])
        else:
            assert all(len(batch) == 1 for batch in batches)


@needs_shared_data
def test_cifar10_records_resume_bit_exactly():
    options = dict(data_dir=str(SHARED / "tfds"), split="train[:3000]", memory_limit_gib=0.0)
    source = open_small("cifar10", **options)
    assert source.num_images == 3000 and sum(source.class_counts) == 3000 and source.num_classes == 10
    full = take(make_dataset(source, 64, seed=1), 60)
    for start in (20, 47):  # In the first and the second data epoch.
        resumed = take(make_dataset(source, 64, seed=1, start_step=start), 3)
        assert_same_batches(full[start : start + 3], resumed)


@needs_shared_data
def test_cifar10_in_order_is_same_from_memory_and_from_disk():
    disk, memory = (
        open_small("cifar10", data_dir=str(SHARED / "tfds"), split="train[:300]", memory_limit_gib=limit)
        for limit in (0.0, 1.0)
    )
    for start in (0, 130):
        from_disk, from_memory = (list(source.reader.in_order_batches(64, start)) for source in (disk, memory))
        assert sum(len(batch[0]) for batch in from_disk) == 300 - start
        assert_same_batches(from_disk, from_memory)
