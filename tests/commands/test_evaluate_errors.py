"""`sagan evaluate` of damaged data and with too little memory ends in one line."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from commands.evaluations import refusal, save_pictures
from data.prepared_folders import run as prepare

from sagan_tf import attend, sample
from sagan_tf.commands.attention_results import AttentionReader
from sagan_tf.data import embedded
from sagan_tf.generation.sampler import Sampler

pytestmark = pytest.mark.usefixtures("toy_networks", "small_evaluations")


@pytest.mark.parametrize("part", ["subject", "reference", "reference of a run"])
def test_damaged_prepared_images_are_named(run, features, tmp_path, capsys, part):
    save_pictures(tmp_path / "pictures", embedded.render("twins", range(20))[0])
    for name in ("subject", "reference"):
        prepare(tmp_path / "pictures", tmp_path / name)
    shard = tmp_path / part.split()[0] / "train" / "shard_00000.bin"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    subject = run.path if part.endswith("run") else tmp_path / "subject"
    options = ["--reference", tmp_path / "reference", "--features", features, "--metrics", "fid"]
    options += ["--num_samples", 20] if part.endswith("run") else []
    message = refusal(capsys, subject, *options, "--out", tmp_path / "out")
    assert f"`{tmp_path / part.split()[0]}`" in message
    assert f"{shard}: image 10 is damaged: its checksum is wrong" in message
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("size", [10**13, 2**62 - 1])
@pytest.mark.parametrize("option", ["--batch_size", "--num_samples"])
def test_sizes_beyond_the_memory_are_refused(run, features, tmp_path, capsys, option, size):
    numbers = {"--num_samples": 20, option: size}
    flags = [item for pair in numbers.items() for item in pair]
    message = refusal(capsys, run.path, "--features", features, *flags, "--metrics", "fid", "--out", tmp_path)
    assert message.startswith("out of memory or disk space (") and option in message


def test_replicas_that_are_not_there_are_named_as_the_command_calls_them(run, features, tmp_path, capsys):
    options = ["--replicas", 9, "--features", features, "--metrics", "fid", "--out", tmp_path / "out"]
    assert refusal(capsys, run.path, *options).startswith("--replicas: 9 CPU replicas must be made before TensorFlow")


@pytest.mark.parametrize("command", ["evaluate", "sample", "attend"])
def test_memory_of_the_device_that_runs_out_is_named(run, features, tmp_path, capsys, monkeypatch, command):
    def run_out(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    options = {"evaluate": ("--features", features, "--num_samples", 20, "--metrics", "fid")}.get(command, ())
    monkeypatch.setattr(Sampler, "_run", run_out)
    monkeypatch.setattr(AttentionReader, "results", run_out)
    main = {"sample": sample.main, "attend": attend.main}.get(command)
    message = refusal(capsys, run.path, *options, "--out", tmp_path / "out", main=main)
    assert message.startswith("out of memory or disk space (OOM when allocating tensor). Choose a smaller --")
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("kind", ["run", "folder"])
def test_features_that_overflow_are_refused(run, tmp_path, capsys, kind):
    layers = keras.layers
    huge = layers.Conv2D(4, 3, strides=4, kernel_initializer=keras.initializers.Constant(1e38))
    network = keras.Sequential([keras.Input((32, 32, 3)), huge, layers.GlobalAveragePooling2D(), layers.Dense(3)])
    network.save(tmp_path / "huge.keras")
    subject, options = run.path, ["--num_samples", 20]
    if kind == "folder":
        subject, options = tmp_path / "white", []
        save_pictures(subject, np.full((4, 32, 32, 3), 255, np.uint8))
    message = refusal(
        capsys, subject, "--reference", "twins", "--features", tmp_path / "huge.keras", "--out", tmp_path / "out",
        "--metrics", "fid", *options,
    )  # fmt: skip
    assert message.startswith("huge.keras:") and "not finite" in message
    assert "--features" in message and "--pixel_range" in message
    assert not list(tmp_path.glob("out/*"))
