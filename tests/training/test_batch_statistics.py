"""Local batch statistics on one replica; on several: test_replicas.py."""

import numpy as np
import pytest
from training.float16 import make_images, make_small, state
from training.tiny import fit

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


def test_local_statistics_are_the_global_ones_on_one_replica():
    gans = [make_small("float32", loss="hinge", synchronized=value, run_eagerly=True) for value in (False, True)]
    for gan in gans:
        fit(gan, make_images(3))
    for local, over_all in zip(*map(state, gans), strict=True):
        np.testing.assert_array_equal(local, over_all)
