"""A seed is one picture: in every batch, alone or in a sweep, here and in the exported model."""

import numpy as np
import pytest
import tensorflow as tf
from export.generators import NUM_CLASSES, make_generator
from hypothesis import given, settings
from hypothesis import strategies as st

from sagan_tf.export.signatures import make_signatures
from sagan_tf.generation.folding import fold_generator
from sagan_tf.generation.sampler import Sampler

SEEDS = st.lists(st.integers(0, 2**62), min_size=1, max_size=9)


@pytest.fixture(scope="module", params=[NUM_CLASSES, None], ids=["classes", "no classes"])
def folded(request):
    return fold_generator(make_generator(request.param))


@pytest.fixture(scope="module")
def sampler(folded):
    return Sampler(folded, batch_size=4)


def labels_of(sampler, seeds):
    return None if sampler.num_classes is None else [seed % sampler.num_classes for seed in seeds]


def test_seed_is_the_picture_of_the_exported_model(folded, sampler):
    seeds, cuts = [0, 1, 2**40, 7, 8], np.float32([0.5, 1, 2, 6, 9])
    labels = labels_of(sampler, seeds)
    sample = next(signature for signature in make_signatures(folded) if signature.name == "sample")
    inputs = [np.int64(seeds)] + ([] if labels is None else [np.int32(labels)]) + [cuts]
    files = tf.function(sample.function)(*map(tf.constant, inputs))["image_bytes"].numpy()
    expected = np.stack([tf.io.decode_png(file).numpy() for file in files])
    found = sampler.sample(seeds, labels, cuts)
    # The exported graph runs another batch; a sum in another order may move a level by one.
    assert found.dtype == np.uint8 and abs(found.astype(int) - expected).max() <= 1
    assert len({image.tobytes() for image in found}) == len(seeds)


@settings(max_examples=15, deadline=None)
@given(seeds=SEEDS, random=st.randoms())
def test_seed_is_the_same_picture_in_every_batch(sampler, seeds, random):
    labels = labels_of(sampler, seeds)
    together = sampler.sample(seeds, labels)
    order = random.sample(range(len(seeds)), len(seeds))
    shuffled = sampler.sample([seeds[i] for i in order], None if labels is None else [labels[i] for i in order])
    np.testing.assert_array_equal(shuffled, together[order])
    alone = sampler.sample(seeds[-1:], None if labels is None else labels[-1:])
    np.testing.assert_array_equal(alone[0], together[-1])


def test_ways_reach_both_ends_exactly(sampler):
    ends = [(3, 0), (9, 2)] if sampler.num_classes else [(3, None), (9, None)]
    way = sampler.interpolate(*ends, [0.0, 0.5, 1.0])
    for image, (seed, label) in zip(way[[0, 2]], ends):
        np.testing.assert_array_equal(image, sampler.sample([seed], None if label is None else [label])[0])
    assert (way[1] != way[0]).any() and (way[1] != way[2]).any()


def test_nothing_asked_is_no_picture(sampler):
    assert sampler.sample([], labels_of(sampler, [])).shape == (0, 32, 32, 3)


def test_labels_that_do_not_fit_are_refused(sampler):
    if sampler.num_classes is None:
        with pytest.raises(ValueError, match="Received: labels="):
            sampler.sample([1], [0])
    else:
        for labels in ([-1], [NUM_CLASSES], None):
            with pytest.raises(ValueError, match="Received: "):
                sampler.sample([1], labels)
