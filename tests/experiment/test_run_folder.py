"""A run of toy networks that trains as users do: what its folder holds."""

import keras
import numpy as np
from PIL import Image
from tiny_runs import tiny_config

from sagan_tf.data.embedded import KINDS
from sagan_tf.experiment import precision
from sagan_tf.experiment.train import train


def test_train_writes_run_folder(tmp_path, capsys, toy_networks, monkeypatch):
    monkeypatch.setattr(precision, "processor_entry", {"flags": "fpu avx512_bf16"}.get)
    config = tiny_config(
        tmp_path / "run", generator_optimizer__decay_start_step=0, generator_optimizer__final_learning_rate=0,
        hardware__precision="auto",
    )  # fmt: skip
    run = train(config)
    out = capsys.readouterr().out
    assert "Rule of twins, 1000 samples of the averaged generator, seeds 0 to 999: valid 0." in out
    assert "Precision: mixed_bfloat16 (hardware.precision: auto; bfloat16 is native to the processor)\n" in out
    assert run.config().hardware.precision == run.starts()[0]["precision"] == "mixed_bfloat16"
    lines = run.read_metrics()
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    wanted = {"d_loss", "g_loss", "real_logit", "fake_logit", "gamma/g/attention_16", "sigma/d/embedding"}
    assert wanted <= set(lines[-1])
    rate = config.generator_optimizer.learning_rate
    rates = [line["generator_learning_rate"] for line in lines]
    np.testing.assert_allclose(rates, rate * np.array([0.75, 0.5, 0.25, 0]), rtol=1e-5, atol=1e-12)
    rates = [line["discriminator_learning_rate"] for line in lines]
    np.testing.assert_allclose(rates, config.discriminator_optimizer.learning_rate, rtol=1e-5)
    assert lines[-1]["images"] == 16 and lines[-1]["images_per_second"] > 0
    for step in (0, 2, 4):
        with Image.open(run.sample_path(step)) as picture:
            assert picture.height == 2 * 64 and picture.width > 3 * 64  # the names of the classes
        with Image.open(run.attention_picture_path(step)) as picture:
            assert picture.width > 6 * 160
    assert run.contact_sheet_path.exists()
    page = run.report_path.read_text(encoding="utf-8")
    assert '"step":4,"steps":4' in page and page.count("data:image/webp") == 3 + 3 + 1
    assert run.class_names() == list(KINDS)
    generator = keras.models.load_model(run.generator_path)
    assert "bfloat16" in {layer.compute_dtype for layer in generator.layers}
    assert generator([keras.ops.zeros((1, 128)), keras.ops.array([0])]).shape == (1, 32, 32, 3)
    assert not list(run.path.rglob("*partial*"))
