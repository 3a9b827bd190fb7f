"""Runs of the tests in this folder train on few embedded images."""

import functools

import pytest
from toy_networks import toy_discriminator, toy_generator
from toy_networks import toy_networks as toy_networks

from sagan_tf.data import embedded
from sagan_tf.experiment import build, train
from sagan_tf.training import SAGAN


@pytest.fixture(scope="module", autouse=True)
def small_embedded_data():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "SPLITS", {"train": 60, "test": 20})
        yield


@pytest.fixture(scope="module")
def quick_training():
    """`train` makes toy networks without attention and runs eagerly; test_run_folder.py trains as users do."""
    with pytest.MonkeyPatch.context() as patch:
        for name, builder in (("build_generator", toy_generator), ("build_discriminator", toy_discriminator)):
            patch.setattr(build, name, functools.partial(_without_attention, builder))
        patch.setattr(SAGAN, "compile", functools.partialmethod(SAGAN.compile, run_eagerly=True))
        patch.setattr(train, "report_rule", lambda *_: None)
        yield


def _without_attention(builder, **options):
    return builder(**{**options, "attention_sizes": ()})
