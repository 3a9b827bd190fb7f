"""Configs without paths of this machine."""

import pytest

from sagan_tf.config import load_config
from sagan_tf.runs.portable import dataset_name, portable_config, without_paths


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


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("/mnt/data/faces/", "faces"),
        ("../secret/faces", "faces"),
        ("./faces", "faces"),
        ("~/faces", "faces"),
        ("clients/acme/faces", "faces"),
        ("acme/here", "here"),  # a folder
        ("twins", "twins"),
        ("imagenet2012", "imagenet2012"),
        ("imagenet_resized/32x32:1.0.0", "imagenet_resized/32x32:1.0.0"),
        ("huggingface:owner/name", "huggingface:owner/name"),
        ("my:own/data/here", "here"),  # a folder
    ],
)
def test_dataset_name_has_no_path_of_this_machine(given, left, tmp_path, monkeypatch):
    for folder in ("acme/here", "my:own/data/here"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert dataset_name(given) == left


@pytest.mark.parametrize(
    ("given", "left"),
    [("acme/g.keras", "g.keras"), ("runs/first/", "first"), ("hf://owner/name@v1", "hf://owner/name@v1")],
)
def test_portable_config_keeps_the_last_part_of_a_start(given, left):
    config = load_config(["--training.start_from", given])
    assert portable_config(config).training.start_from == left
