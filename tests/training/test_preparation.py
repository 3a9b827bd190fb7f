"""Flips and dequantization of a batch on the device."""

import numpy as np
import tensorflow as tf

from sagan_tf.generation.pixels import to_levels
from sagan_tf.training.preparation import prepare_images
from sagan_tf.training.randomness import StepRandomness

EVERY_LEVEL = np.tile(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), (5000, 1, 1, 1))


def test_dequantized_levels_round_to_themselves():
    values = prepare_images(tf.constant(EVERY_LEVEL), StepRandomness(0, 0), dequantize=True)
    np.testing.assert_array_equal(to_levels(values), EVERY_LEVEL)
    assert -1 <= values.numpy().min() and values.numpy().max() <= 1


def test_dequantized_levels_are_uniform_where_they_round_to_one_level():
    values = np.float64(prepare_images(tf.constant(EVERY_LEVEL), StepRandomness(0, 0), dequantize=True)).reshape(
        5000, 256
    )
    noise = (values + 1) * 127.5 - np.arange(256)
    low, high = np.full(256, -0.5), np.full(256, 0.5)
    low[0] = high[255] = 0  # -0.5 and 255.5 lie outside of [0, 255].
    quantiles = (np.arange(5000) + 0.5) / 5000
    distance = np.sort((noise - low) / (high - low), axis=0) - quantiles[:, None]
    assert abs(distance).max() < 0.04  # Kolmogorov-Smirnov: p = 3e-5 for all 256 levels.


def test_flips_and_noise_differ_between_seeds_of_any_size_and_steps():
    images = tf.random.stateless_uniform((64, 2, 2, 1), (0, 0), 0, 255, tf.int32)
    keys = [(seed, step) for seed in (0, 1, 2**63, 2**64, 2**64 + 1) for step in (0, 1)]
    for options in ({"flip": True}, {"dequantize": True}):
        batches = [prepare_images(images, StepRandomness(*key), **options).numpy().tobytes() for key in keys]
        assert len(set(batches)) == len(keys)


def test_flips_mirror_about_half_of_the_images():
    images = np.random.default_rng(0).integers(0, 256, (200, 2, 3, 1), np.uint8)
    prepared = to_levels(prepare_images(tf.constant(images), StepRandomness(0, 0), flip=True).numpy())
    mirrored, same = ((prepared == other).all((1, 2, 3)) for other in (images[:, :, ::-1], images))
    assert (mirrored | same).all() and 70 < mirrored.sum() < 130
