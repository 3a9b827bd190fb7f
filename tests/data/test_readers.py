"""Readers and the stream of training batches: order, exact resuming, and the same images from memory and from disk."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import SHARED, needs_shared_data, open_small

from sagan_tf.data.pipeline import make_dataset
from sagan_tf.data.readers import ArrayReader
from sagan_tf.data.sources import Source


def numbered_source(count):
    """A source whose images and labels hold their number."""
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    return Source("numbered", "train", ArrayReader(images, np.arange(count, dtype=np.int32)), None, None, 2, 3)


def take(dataset, count):
    return [[part.numpy() for part in element] for element in dataset.take(count)]


def assert_same_batches(first, second):
    for a, b in zip(first, second, strict=True):
        for part, other in zip(a, b, strict=True):
            np.testing.assert_array_equal(part, other)


@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 40), batch=st.integers(1, 50), seed=st.integers(0, 2**40), start=st.integers(0, 30))
def test_dataset_resumes_bit_exactly_at_any_step(count, batch, seed, start):
    source, options = numbered_source(count), {"seed": seed, "flip": True, "dequantize": True}
    full = take(make_dataset(source, batch, **options), start + 2)
    assert_same_batches(full[start:], take(make_dataset(source, batch, start_step=start, **options), 2))


@settings(max_examples=15, deadline=None)
@given(count=st.integers(2, 40), seed=st.integers(0, 1000))
def test_dataset_epochs_are_different_permutations(count, seed):
    epochs = [labels for _, labels in take(make_dataset(numbered_source(count), count, seed=seed), 6)]
    for labels in epochs:
        assert sorted(labels) == list(range(count))
    if count > 8:
        assert len({tuple(labels) for labels in epochs}) > 1


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
    expected = [(np.asarray(load()), label) for load, label in source.reader.in_order()]
    for start in (0, 4):
        batches = list(source.reader.in_order_batches(3, start))
        assert [len(batch[0]) for batch in batches] == ([3, 3, 3, 1] if start == 0 else [3, 3])
        images = np.concatenate([batch[0] for batch in batches])
        np.testing.assert_array_equal(images, [image for image, _ in expected[start:]])
        if conditional is None:
            labels = np.concatenate([batch[1] for batch in batches])
            np.testing.assert_array_equal(labels, [label for _, label in expected[start:]])
        else:
            assert all(len(batch) == 1 for batch in batches)


@needs_shared_data
def test_cifar10_records_resume_bit_exactly():
    options = dict(data_dir=str(SHARED / "tfds"), split="train[:3000]", memory_limit_gib=0.0, shuffle_buffer=500)
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
