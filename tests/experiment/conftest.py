"""Runs of the tests in this folder train on few embedded images."""

import pytest

from sagan_tf.data import embedded


@pytest.fixture(scope="module", autouse=True)
def small_embedded_data():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "SPLITS", {"train": 60, "test": 20})
        yield
