"""Configs without paths of this machine."""

import pytest

from sagan_tf.config import load_config
from sagan_tf.runs.portable import portable_config, without_paths


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("/mnt/nets/inception/", "inception"),
        ("nets/inception", "inception"),
        ("/mnt/nets/model/:pool", "model:pool"),
        ("/mnt/net.keras:last", "net.keras:last"),
    ],
)
def test_portable_config_keeps_the_name_of_a_network(given, left):
    """A folder that ended with a slash had no name left, which the config refused, and with it export and push."""
    config = load_config(["--evaluation.features", given, "--evaluation.inception", given])
    assert portable_config(config).evaluation.features == left
    assert without_paths(config)["evaluation"]["inception"] == left
