"""Latents drawn inside a graph: their distribution and independence."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from sagan_tf.generation.latents import draw_latents, interpolate_latents, interpolate_rows

DIM = 64
SEEDS = st.integers(-(2**63), 2**63 - 1)


@tf.function(input_signature=[tf.TensorSpec([None], tf.int64), tf.TensorSpec([None], tf.float32)], autograph=False)
def draw(seed, truncation):
    return draw_latents(seed, truncation, DIM)


def latents(seeds, truncation):
    seeds = np.asarray(seeds, np.int64)
    return draw(seeds, np.broadcast_to(np.float32(truncation), seeds.shape)).numpy()


@pytest.mark.parametrize("truncation", [0.01, 0.5, 1.0, 2.0, 6.0, 1e6])
def test_latents_follow_the_truncated_normal_distribution(truncation):
    z = latents(range(1000), truncation).ravel()
    limit = min(truncation, 50.0)
    # Kolmogorov-Smirnov on 64,000 fixed draws; a wrong width of 1 % would give p below 1e-3 for the wider ones.
    assert scipy.stats.kstest(z, scipy.stats.truncnorm(-limit, limit).cdf).pvalue > 0.01
    assert abs(z).max() <= truncation and np.isfinite(z).all()


def test_latents_match_scipy_inverse_of_philox_numbers():
    u = tf.random.stateless_uniform([DIM], tf.constant([7, 0], tf.int64), dtype=tf.float64, alg="philox").numpy()
    np.testing.assert_allclose(latents([7], 1.5)[0], scipy.stats.truncnorm(-1.5, 1.5).ppf(u), atol=1e-6)


def test_latents_of_neighboring_seeds_are_uncorrelated():
    z = latents(range(400), 6.0)
    correlation = np.corrcoef(z)[np.triu_indices(400, 1)]
    assert abs(correlation).max() < 6 / np.sqrt(DIM) and abs(correlation.std() * np.sqrt(DIM) - 1) < 0.05


@settings(max_examples=30)
@given(st.lists(SEEDS, min_size=1, max_size=6), st.randoms())
def test_latents_do_not_depend_on_the_batch(seeds, random):
    together = latents(seeds, 1.0)
    order = random.sample(range(len(seeds)), len(seeds))
    np.testing.assert_array_equal(latents([seeds[i] for i in order], 1.0), together[order])
    np.testing.assert_array_equal(latents(seeds[:1], 1.0)[0], together[0])


def test_latents_shrink_with_the_truncation_in_the_same_order():
    narrow, wide = latents([3], 0.5)[0], latents([3], 2.0)[0]
    assert (np.argsort(narrow) == np.argsort(wide)).all()
    assert (abs(narrow) < abs(wide)).all()


@settings(max_examples=50)
@given(SEEDS, SEEDS, st.floats(0, 1, width=32))
def test_interpolation_follows_a_great_circle(first, second, fraction):
    start, end = np.float64(latents([first, second], 6.0))
    latent = interpolate_latents(*(tf.constant(x[None], tf.float32) for x in (start, end)), tf.constant([fraction]))
    unit_start, unit_end = start / np.linalg.norm(start), end / np.linalg.norm(end)
    angle = np.arccos(np.clip(unit_start @ unit_end, -1, 1))
    if first == second:
        expected = start
    else:
        weights = np.sin((1 - fraction) * angle) / np.sin(angle), np.sin(fraction * angle) / np.sin(angle)
        expected = weights[0] * start + weights[1] * end
    np.testing.assert_allclose(latent[0], expected, atol=2e-4)


def test_interpolation_reaches_both_ends_exactly():
    start, end = (tf.constant(latents(seeds, 6.0)) for seeds in (range(50), range(50, 100)))
    for interpolate in (interpolate_latents, interpolate_rows):
        np.testing.assert_array_equal(interpolate(start, end, tf.zeros(50)), start)
        np.testing.assert_array_equal(interpolate(start, end, tf.ones(50)), end)


def test_interpolation_is_finite_between_opposite_latents():
    start = tf.constant(latents([1], 6.0))
    assert np.isfinite(interpolate_latents(start, -start, tf.constant([0.3]))).all()
