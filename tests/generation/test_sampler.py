"""A seed is one image: in every batch, folded or not, and in the exported model."""

import numpy as np
import pytest
import tensorflow as tf
from export.generators import NUM_CLASSES, make_toy_generator
from hypothesis import given, settings
from hypothesis import strategies as st

from sagan_tf.export.signatures import make_signatures
from sagan_tf.generation.folding import fold_generator
from sagan_tf.generation.pixels import to_levels
from sagan_tf.generation.sampler import Sampler, grid_seeds

SEEDS = st.lists(st.integers(0, 2**62), min_size=1, max_size=9)


@pytest.fixture(scope="module", params=[NUM_CLASSES, None], ids=["classes", "no classes"])
def folded(request):
    return fold_generator(make_toy_generator(request.param))


@pytest.fixture(scope="module")
def sampler(folded):
    return Sampler(folded, batch_size=4)


def labels_of(sampler, seeds):
    return None if sampler.num_classes is None else [seed % sampler.num_classes for seed in seeds]


@pytest.mark.slow
def test_sampler_matches_the_exported_sample_signature(folded, sampler):
    seeds, truncations = [0, 1, 2**40, 7, 8], np.float32([0.5, 1, 2, 6, 9])
    labels = labels_of(sampler, seeds)
    sample = next(signature for signature in make_signatures(folded) if signature.name == "sample")
    inputs = [np.int64(seeds)] + ([] if labels is None else [np.int32(labels)]) + [truncations]
    files = tf.function(sample.function)(*map(tf.constant, inputs))["image_bytes"].numpy()
    expected = np.stack([tf.io.decode_png(file).numpy() for file in files])
    images = sampler.sample(seeds, labels, truncations)
    # The exported graph runs another batch; another summation order may change a level by one.
    assert images.dtype == np.uint8 and abs(images.astype(int) - expected).max() <= 1
    assert len({image.tobytes() for image in images}) == len(seeds)


@settings(max_examples=15)
@given(seeds=SEEDS, random=st.randoms())
def test_sampler_images_do_not_depend_on_the_batch(sampler, seeds, random):
    labels = labels_of(sampler, seeds)
    together = sampler.sample(seeds, labels)
    order = random.sample(range(len(seeds)), len(seeds))
    shuffled = sampler.sample([seeds[i] for i in order], None if labels is None else [labels[i] for i in order])
    np.testing.assert_array_equal(shuffled, together[order])
    alone = sampler.sample(seeds[-1:], None if labels is None else labels[-1:])
    np.testing.assert_array_equal(alone[0], together[-1])


def test_sampler_interpolation_reaches_both_ends_exactly(sampler):
    ends = [(3, 0), (9, 2)] if sampler.num_classes else [(3, None), (9, None)]
    images = sampler.interpolate(*ends, [0.0, 0.5, 1.0])
    for image, (seed, label) in zip(images[[0, 2]], ends):
        np.testing.assert_array_equal(image, sampler.sample([seed], None if label is None else [label])[0])
    assert (images[1] != images[0]).any() and (images[1] != images[2]).any()


def test_sampler_interpolation_rejects_a_label_of_one_end_alone(sampler):
    for ends in ([(3, 0), (9, None)], [(3, None), (9, 0)]):
        with pytest.raises(ValueError, match="must both have a label, or neither"):
            sampler.interpolate(*ends, [0.5])


def test_sampler_returns_no_images_for_no_seeds(sampler):
    assert sampler.sample([], labels_of(sampler, [])).shape == (0, 32, 32, 3)


def test_sampler_rejects_labels_that_do_not_match_the_classes(sampler):
    if sampler.num_classes is None:
        with pytest.raises(ValueError, match="Received: labels="):
            sampler.sample([1], [0])
    else:
        for labels in ([-1], [NUM_CLASSES], None):
            with pytest.raises(ValueError, match="Received: "):
                sampler.sample([1], labels)


@pytest.mark.slow
@pytest.mark.parametrize("num_classes", [NUM_CLASSES, None])
def test_sampler_of_a_keras_model_follows_its_weights(num_classes):
    generator = make_toy_generator(num_classes)
    live = Sampler(generator, batch_size=4)
    seeds, labels = grid_seeds(2, 3, num_classes)
    before = live.sample(seeds, labels)
    # Folding sums in another order, which may change a level by one.
    folded = Sampler(fold_generator(generator), batch_size=4).sample(seeds, labels)
    assert abs(before.astype(int) - folded).max() <= 1
    for weight in generator.trainable_weights:
        weight.assign(1.5 * weight)
    after, folded = live.sample(seeds, labels), Sampler(fold_generator(generator), batch_size=4).sample(seeds, labels)
    assert (after != before).any() and abs(after.astype(int) - folded).max() <= 1


def test_sampler_returns_outputs_of_its_images(sampler, folded):
    def outputs(images):
        levels = to_levels(images)
        return levels, tf.reduce_mean(tf.cast(levels, tf.float32), (1, 2)), None

    labels = labels_of(sampler, range(6))
    images, means, probabilities = Sampler(folded, 4, outputs=outputs).sample_outputs(range(6), labels)
    np.testing.assert_array_equal(images, sampler.sample(range(6), labels))
    np.testing.assert_allclose(means, images.mean((1, 2)), rtol=1e-5)
    assert probabilities is None


def test_grid_seeds_number_samples_as_the_sample_command():
    seeds, labels = grid_seeds(3, 2, 2)
    assert seeds.tolist() == [0, 1, 0, 1, 2, 3] and labels.tolist() == [0, 0, 1, 1, 0, 0]
    seeds, labels = grid_seeds(2, 3, None)
    assert seeds.tolist() == [0, 1, 2, 3, 4, 5] and labels is None


def test_many_samplers_in_a_process_warn_of_no_retracing(caplog):
    for _ in range(8):
        Sampler(make_toy_generator(None), batch_size=2, show_progress=False).sample([0])
    assert not [record for record in caplog.records if "retracing" in record.getMessage()]


def test_sampler_takes_a_truncation_beyond_float32_for_none(sampler):
    labels = None if sampler.num_classes is None else [0, 0]
    np.testing.assert_array_equal(sampler.sample([3, 4], labels, 1e39), sampler.sample([3, 4], labels, 1e30))
