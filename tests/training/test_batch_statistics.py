"""Local batch statistics on one replica; on several: test_replicas.py."""

import numpy as np
import pytest
import tensorflow as tf

from sagan_tf.layers import BatchNormalization
from sagan_tf.networks import build_generator
from sagan_tf.training.batch_statistics import has_global_statistics


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("kind", ["global", "local"])
def test_generator_normalizes_by_the_statistics_that_it_is_built_for(kind, num_classes):
    generator = build_generator(32, 1, num_classes, attention_sizes=(), batch_statistics=kind)
    assert has_global_statistics(generator) == (kind == "global")


def test_generator_rejects_other_statistics():
    with pytest.raises(ValueError, match="`batch_statistics` must be 'global' or 'local'. Received: batch_statistics="):
        build_generator(32, 1, batch_statistics="batch")


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_local_statistics_are_the_global_ones_on_one_replica(dtype):
    x, results = tf.constant(np.random.default_rng(0).normal(3, 2, (5, 7, 6, 9)), tf.float32), []
    for synchronized in (False, True):
        layer = BatchNormalization(synchronized=synchronized, dtype=dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.sin(tf.cast(layer(x, training=True), tf.float32)))
        results.append([loss, tape.gradient(loss, x), *layer.get_weights()])
    for local, over_all in zip(*results, strict=True):
        np.testing.assert_array_equal(local, over_all)
