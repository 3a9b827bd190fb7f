"""Conversion between images in [-1, 1] and 8-bit levels."""

import numpy as np
import tensorflow as tf

from sagan_tf.generation.pixels import from_levels, to_levels, to_png
from sagan_tf.training.preparation import to_float

LEVELS = np.arange(256, dtype=np.uint8)


def test_to_levels_inverts_to_float_and_from_levels():
    np.testing.assert_array_equal(to_levels(to_float(LEVELS)), LEVELS)
    np.testing.assert_array_equal(to_levels(from_levels(LEVELS)), LEVELS)
    assert to_levels(LEVELS) is LEVELS


def test_to_levels_clips_values_out_of_range():
    values = np.array([-3.0, 3.0])
    assert to_levels(values).tolist() == to_levels(tf.constant(values)).numpy().tolist() == [0, 255]


def test_to_levels_is_the_same_for_tensors_and_arrays():
    values = np.random.default_rng(0).uniform(-1.1, 1.1, 100_000).astype(np.float32)
    np.testing.assert_array_equal(to_levels(tf.constant(values)), to_levels(values))


def test_to_png_holds_the_levels():
    images = from_levels(LEVELS.reshape(1, 16, 16, 1))
    np.testing.assert_array_equal(tf.io.decode_png(to_png(images)[0]), to_levels(images)[0])
