"""Local batch statistics on one replica; on several: test_replicas.py."""

import numpy as np
from training.float16 import make_images, make_small, state
from training.tiny import fit


def test_local_statistics_are_the_global_ones_on_one_replica():
    gans = [make_small("float32", loss="hinge", synchronized=value, run_eagerly=True) for value in (False, True)]
    for gan in gans:
        fit(gan, make_images(3))
    for local, over_all in zip(*map(state, gans), strict=True):
        np.testing.assert_array_equal(local, over_all)
