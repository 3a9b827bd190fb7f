"""A run on images that are not square, from training to export."""

import functools
import json

import keras
import numpy as np
from PIL import Image
from small_data import save_picture
from tiny_runs import tiny_config

from sagan_tf import cli
from sagan_tf.experiment.loading import restore_networks
from sagan_tf.experiment.train import train
from sagan_tf.generation.pixels import to_levels
from sagan_tf.generation.sampler import Sampler
from sagan_tf.training import SAGAN


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


def test_run_on_rectangles_from_training_to_export(tmp_path, toy_networks, monkeypatch, capsys):
    monkeypatch.setattr(SAGAN, "compile", functools.partialmethod(SAGAN.compile, run_eagerly=True))
    rng = np.random.default_rng(0)
    for i in range(8):
        pixels = rng.integers(0, 255, (30 + i, 70 - 5 * i, 3), np.uint8)
        save_picture(tmp_path / "pictures" / "ab"[i % 2] / f"{i}.png", pixels)
    options = dict(
        data__name=tmp_path / "pictures", data__image_height=24, data__image_width=40, generator__latent_dim=5,
        generator__attention_sizes="[12]", discriminator__attention_sizes="[6]", output__checkpoint_interval=1,
        training__augmentation="[color,translation,cutout]",
    )  # fmt: skip
    path = tmp_path / "run"
    train(tiny_config(path, 1, **options))
    run = train(tiny_config(path, 2, **options))
    assert [line["step"] for line in run.read_metrics()] == [1, 2]
    images = Sampler(restore_networks(run).generator).sample(np.arange(3), np.int32([0, 1, 1]))
    assert images.shape == (3, 24, 40, 3)
    width, height = size_of(run.sample_path(2))
    assert height == 2 * 72 and width > 3 * 120  # enlarged threefold; the names of the classes
    width, height = size_of(run.attention_picture_path(2))
    assert width > 6 * 160 * 40 / 24 > height

    cli.main(["sample", str(path), "--files", "2", "--interpolate", "latents", "--directions", "1"])
    cli.main(["attend", str(path), "--points", "39,0;0,23", "--images", "2", "--measured", "2", "--npz", "--explorer"])
    cli.main(["evaluate", str(path), "--num_samples", "8", "--metrics", "ms_ssim,nearest"])
    samples = sorted((path / "pictures" / "samples").glob("*.png"))
    assert {size_of(sample) for sample in samples} == {(40, 24)}
    with np.load(next((path / "attention").glob("*.npz"))) as arrays:
        assert arrays["discriminator/attention_6/real/images"].shape == (2, 24, 40, 3)
        assert arrays["generator/attention_12/generated/points"].tolist() == 2 * [[[0, 19], [11, 0]]]
        assert arrays["generator/attention_12/generated/scores"].shape == (2, 12 * 20, 6 * 10)
    summary = json.loads((path / "attention" / "summary_step_00000002.json").read_text())
    centers = np.stack(np.meshgrid(np.arange(12) * 2 + 1.0, np.arange(20) * 2 + 1.0), -1).reshape(-1, 1, 2)
    keys = np.stack(np.meshgrid(np.arange(6) * 4 + 2.0, np.arange(10) * 4 + 2.0), -1).reshape(-1, 2)
    assert np.isclose(summary[0]["uniform_distance_px"], np.hypot(*np.moveaxis(centers - keys, -1, 0)).mean())

    capsys.readouterr()
    cli.main(["export", str(path), "--out", str(tmp_path / "out"), "--formats", "keras"])
    exported = keras.models.load_model(tmp_path / "out" / "keras" / "generator.keras")
    inputs = Sampler(restore_networks(run).generator).inputs(np.arange(3), np.int32([0, 1, 1]))
    assert np.abs(np.int16(to_levels(exported.predict(inputs, verbose=0))) - images).max() <= 1
