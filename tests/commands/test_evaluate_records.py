"""What `sagan evaluate` has measured stands in the model card and the report of a run."""

import re

import pytest
import tensorflow as tf
from commands.evaluations import measured
from small_runs import make_run

from sagan_tf.export.model_card import to_markdown
from sagan_tf.runs.provenance import describe_training
from sagan_tf.runs.report import describe_run

pytestmark = pytest.mark.usefixtures("toy_networks", "small_evaluations")


def test_model_card_lists_evaluations(features, tmp_path):
    run = make_run(tmp_path / "run")
    measured(run.path, "--features", features, "--num_samples", 20, "--metrics", "fid,kid")
    (run.evaluation_path / "step_00000200-damaged.json").write_text('{"subject": {"step": 200}, "samples": 3}')
    (evaluation,) = describe_training(run)["evaluations"]
    assert set(evaluation["figures"]) == {"Fréchet distance", "kernel distance"}
    assert evaluation["samples"]["count"] == 20
    card = {
        "name": "sagan",
        "exported_at": "now",
        "license": "",
        "versions": {},
        "files": [],
        "generator": {
            "num_classes": 4,
            "image_width": 32,
            "image_height": 32,
            "image_channels": 3,
            "latent_dim": 12,
            "parameters": 1,
            "attention_maps": {},
        },
        "training": describe_training(run),
        "loading": {},
        "samples": None,
    }
    value = evaluation["figures"]["Fréchet distance"]["value"]
    assert f"| Fréchet distance | {value:.6g} |" in to_markdown(card)
    text = to_markdown(card)
    assert "20 samples from seed 0" in text and "by small.keras" in text and "0 disc, 1 ring" in text
    rows = dict(re.findall(r"^\| made with: ([^|]+) \| (.+) \|$", text, re.MULTILINE))
    assert rows["samples"] == "20, seeds 0 to 19, truncation none, labels drawn with equal probabilities"
    assert rows["data"] == "twins, split train, 240 images" and "step 200" in rows["generator"]
    assert f"tensorflow {tf.__version__}" in rows["versions"] and "cores" in rows["hardware"]
    assert "kernel distance" in run.report_path.read_text(encoding="utf-8")
    record = describe_run(run)
    assert record.evaluations[0]["how"] == list(evaluation["how"].items())
    assert [path.suffix for path in record.evaluations[0]["pictures"]] == [".png", ".png"]
