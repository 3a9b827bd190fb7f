"""The command `python -m sagan_tf.export`."""

import dataclasses
import functools
import json
import os
import re
import runpy
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from export.generators import LATENT_DIM, images_of, make_inputs, make_toy_generator
from PIL import Image
from small_runs import once

from sagan_tf.commands import export
from sagan_tf.config import QUICK_START, save_config
from sagan_tf.export.__main__ import main
from sagan_tf.export.formats import FORMATS
from sagan_tf.export.model_card import to_markdown
from sagan_tf.files.hashing import sha256
from sagan_tf.generation.saving import save_generator
from sagan_tf.runs.folder import Run
from sagan_tf.runs.provenance import describe_training

FORMAT_LIST = ", ".join(FORMATS)


@pytest.fixture
def run(tmp_path):
    """A run folder as written by training, without its generator."""
    run = Run(tmp_path / "run")
    run.checkpoints_path.mkdir(parents=True)
    for step in (900, 1500):
        (run.checkpoints_path / f"ckpt-{step}.index").touch()
    save_config(QUICK_START, run.config_path)
    for line in ({"step": 1000, "d_loss": 2.0, "fid": 31.5, "sigma/g/dense": 3.0}, {"step": 1500, "d_loss": 1.5}):
        run.metrics_log.append(line | {"images": 32 * line["step"], "g_loss": float("nan")})
    run.environment_path.write_text(json.dumps([{"command": ["first"]}, {"command": ["/secret"], "cpu": "one"}]))
    return run


@pytest.fixture(scope="module")
def generator_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("generator") / "generator.keras"
    save_generator(make_toy_generator(image_size=(32, 48)), path, {"step": 1500})
    return path


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """The command loads, folds and traces each generator once."""
    loaded, load = {}, export.load_model

    def load_once(run):
        content = run.generator_path.read_bytes() if run.generator_path.is_file() else None
        if content not in loaded:
            loaded[content] = load(run)
        return loaded[content]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "load_model", load_once)
        for name in ("fold_generator", "Sampler"):
            patch.setattr(export, name, once(getattr(export, name)))
        yield


@pytest.fixture
def trained(run, generator_path):
    shutil.copy(generator_path, run.generator_path)
    return run


@pytest.fixture
def refusal(command_error):
    return functools.partial(command_error, main)


def test_export_command_writes_every_format(trained, tmp_path, capsys, monkeypatch):
    out = tmp_path / "deep" / "out"
    formats = ",".join(name for name in FORMATS if name != "web")  # which needs npm; see test_web_page.py
    main([str(trained.path), "--out", str(out), "--formats", formats, "--name", "twins", "--version", "7"])
    for path in (
        "saved_model/twins/7/saved_model.pb",
        "saved_model/twins/7/variables/variables.index",
        "onnx/generator.onnx",
        "tflite/generator_float32.tflite",
        "tflite/generator_int8.tflite",
        "keras/generator.keras",
    ):
        assert (out / path).is_file(), path
    printed = [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines() if ": " in line]
    assert all(Path(path).exists() for path in printed) and str(out / "saved_model" / "twins" / "7") in printed
    # The lines of the model card run as they stand.
    text = (out / "model_card.md").read_text()
    blocks = re.findall("```python\n(.+?)\n```", text, re.DOTALL)
    assert [len(block.splitlines()) for block in blocks] == [5, 5] and "](samples.png)" in text
    monkeypatch.chdir(out)
    spaces = [{}, {}]
    for block, space in zip(blocks, spaces):
        exec(block, space)
    assert spaces[1]["images"].shape == (8, 32, 48, 3)
    with Image.open("seed_0.png") as picture, Image.open("samples.png") as table:
        size = np.array(picture.size)
        scaled = picture.resize(size * 3, Image.Resampling.NEAREST)  # 32 px are enlarged to 96 in a table
        top_left = np.argwhere(
            [
                [(np.asarray(table.crop((x, y, *(size * 3 + (x, y))))) == np.asarray(scaled)).all() for x in range(80)]
                for y in range(80)
            ]
        )
    assert len(top_left) == 1  # seed 0 of class 0
    assert not [path for path in out.rglob(".*")]


def test_export_describes_and_writes_one_generator_while_training_saves(trained, tmp_path, monkeypatch):
    newer, loaded, load, saved = tmp_path / "newer.keras", [], export.load_model, iter([1])
    save_generator(keras.models.load_model(trained.generator_path), newer, {"step": 1600})

    def load_slowly(run):
        for _ in saved:
            newer.rename(run.generator_path)
        loaded.append(sha256(run.generator_path))
        return load(run)

    monkeypatch.setattr(export, "load_model", load_slowly)
    main([str(trained.path), "--out", str(tmp_path / "out"), "--formats", "keras"])
    training = json.loads((tmp_path / "out" / "model_card.json").read_text())["training"]
    assert (training["step"], training["generator_sha256"]) == (1600, loaded[-1])


def test_model_card_describes_training_and_files(trained, tmp_path):
    out = tmp_path / "out"
    main([str(trained.path), "--out", str(out), "--formats", "keras"])
    card = json.loads((out / "model_card.json").read_text())
    training = card["training"]
    assert training["average"].endswith(f"decay {QUICK_START.training.ema_decay}")
    assert (training["step"], training["seed"]) == (1500, QUICK_START.training.seed)
    assert training["data"] == "twins, split train"
    assert training["metrics"] == {"d_loss": {"value": 1.5, "step": 1500}, "fid": {"value": 31.5, "step": 1000}}
    assert training["generator_sha256"] == sha256(trained.generator_path)
    assert training["config"]["generator"]["channels"] == QUICK_START.generator.channels
    assert training["environment"] == {"cpu": "one"}
    assert card["generator"]["num_classes"] == 5 and card["generator"]["latent_dim"] == LATENT_DIM
    assert card["generator"]["attention_maps"] == {"attention_8": [96, 24], "attention_16": [384, 96]}
    assert (card["generator"]["image_height"], card["generator"]["image_width"]) == (32, 48)
    assert card["versions"]["keras"] == keras.__version__ and "data set" in card["license"]
    assert [file["path"] for file in card["files"]] == ["keras/generator.keras"]
    file = out / "keras" / "generator.keras"
    assert card["files"][0]["sha256"] == sha256(file) and card["files"][0]["bytes"] == file.stat().st_size
    text = (out / "model_card.md").read_text()
    assert all(
        word in text
        for word in (
            "# sagan",
            "| fid | 31.5 (step 1000) |",
            "labels 0 .. 4",
            "## License",
            "| hardware | one, no GPU |",
        )
    )
    # Exported files do not contain paths of this machine.
    assert "/secret" not in text + json.dumps(card) and str(tmp_path) not in text + json.dumps(card)


def test_model_card_names_data_and_evaluation_without_paths(trained):
    data = dataclasses.replace(QUICK_START.data, name="/secret/pets/")
    online = dataclasses.replace(QUICK_START.evaluation, interval=100, num_samples=50, split="test")
    save_config(dataclasses.replace(QUICK_START, data=data, evaluation=online), trained.config_path)
    training = describe_training(trained)
    assert training["data"] == "pets, split train" and "/secret" not in json.dumps(training)
    seed = QUICK_START.training.seed + 1
    assert training["how"]["evaluation during training"] == (
        f"50 samples, seeds {seed} to {seed + 49}, against pets, split test, by Inception"
    )


def test_model_card_shows_names_as_text(trained, tmp_path):
    main([str(trained.path), "--out", str(tmp_path), "--formats", "keras"])
    card = json.loads((tmp_path / "model_card.json").read_text())
    hostile = "<img src=x onerror=alert(1)>|a\n# b [link](x)"
    card["name"] = card["training"]["data"] = hostile
    card["training"]["metrics"] = {hostile: {"value": 1.0, "step": 2}, "fid": {"value": 1.0, "step": 2}}
    names = ["`a` *b*", r"c\|d", "__e__"]
    assert r"0 \`a\` \*b\*, 1 c\\\|d, 2 \_\_e\_\_" in to_markdown(
        card | {"training": card["training"] | {"class_names": names}}
    )
    before, text = to_markdown(json.loads((tmp_path / "model_card.json").read_text())), to_markdown(card)
    assert text.count("&lt;img src=x onerror=alert(1)&gt;\\|a # b \\[link](x)") == 3
    assert "<" not in text and text.count("\n") == before.count("\n")


def test_export_command_exports_the_generator_of_the_run(trained, tmp_path):
    main([str(trained.path), "--out", str(tmp_path / "out"), "--formats", "keras"])
    exported = keras.models.load_model(tmp_path / "out" / "keras" / "generator.keras")
    inputs = make_inputs()
    expected = images_of(keras.models.load_model(trained.generator_path), inputs)
    np.testing.assert_allclose(images_of(exported, inputs), expected, atol=3e-5)


def test_export_command_replaces_files_and_adds_a_version(trained, tmp_path):
    out = tmp_path / "out"
    (out / "saved_model" / "sagan" / "1").mkdir(parents=True)
    (out / "keras").mkdir()
    (out / "keras" / "generator.keras").write_text("of the first export")
    main([str(trained.path), "--out", str(out), "--formats", "saved_model,keras"])
    assert sorted(os.listdir(out / "saved_model" / "sagan")) == ["1", "2"]
    assert os.listdir(out / "keras") == ["generator.keras"]
    assert (out / "keras" / "generator.keras").read_bytes().startswith(b"PK")


def test_model_card_lists_earlier_formats_of_the_same_generator(trained, generator_path, tmp_path):
    """A second export into a folder made a card of its own formats alone."""
    out = tmp_path / "out"

    def export_and_list(*formats):
        main([str(trained.path), "--out", str(out), "--formats", *formats])
        card = json.loads((out / "model_card.json").read_text())
        return {file["path"].split("/")[0] for file in card["files"]}, card["loading"]

    names, loading = export_and_list("keras")
    assert names == {"keras"} and list(loading) == ["keras"]
    names, loading = export_and_list("saved_model")
    assert names == {"keras", "saved_model"} and "sagan/1" in "".join(loading["saved_model"])
    names, loading = export_and_list("saved_model")
    assert names == {"keras", "saved_model"} and list(loading) == ["saved_model", "keras"]
    assert "sagan/2" in "".join(loading["saved_model"])
    (out / "keras" / "generator.keras").write_bytes(b"of another program")
    assert export_and_list("saved_model")[0] == {"saved_model"}
    save_generator(make_toy_generator(image_size=(32, 48)), trained.generator_path, {"step": 1501})
    export_and_list("keras")
    assert json.loads((out / "model_card.json").read_text())["training"]["step"] == 1501
    assert export_and_list("keras")[0] == {"keras"}, "the SavedModel is of another generator"


def test_export_command_rejects_bad_run_before_writing(run, tmp_path, refusal):
    out, nowhere = tmp_path / "out", tmp_path / "nowhere"
    assert refusal(nowhere, "--out", out) == f"{nowhere}: not a run folder; config.yaml is missing."
    line = refusal(run.path, "--out", out)
    assert line.startswith(f"{run.generator_path}: there is no generator yet") and "sagan train" in line
    run.generator_path.write_bytes(b"no zip file")
    line = refusal(run.path, "--out", out)
    assert line.startswith(f"{run.generator_path}: cannot be loaded as a generator of sagan_tf")
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--formats", "tflit"], f"--formats: `tflit` is not one of {FORMAT_LIST}. Did you mean `tflite`?"),
        (["--formats", "keras,saved-model"], f"--formats: `saved-model` is not one of {FORMAT_LIST}. Did you mean"),
        (["--formats", "zzz"], f"--formats: `zzz` is not one of {FORMAT_LIST}."),
        (["--formats", ","], "--formats: the list is empty. Name something, or leave --formats out."),
        (["--version", "0"], f"--version: `0` is not a whole number from 1 to {2**63 - 1}."),
        (
            ["--version", "3", "--formats", "tflite,keras"],
            "--version: is for saved_model; add it to --formats, or leave the option out.",
        ),
        (["--node_modules", "."], "--node_modules: is for web; add it to --formats, or leave the option out."),
        (["--version", "new"], f"--version: `new` is not a whole number from 1 to {2**63 - 1}."),
        (["--name", "../up"], "--name: `../up` is not a model name"),
        (["--name", ".hidden"], "--name: `.hidden` is not a model name"),
        (["--outt", "x"], "command line: unrecognized arguments: --outt x"),
        (["--formats"], "command line: argument --formats: expected one argument"),
    ],
)
def test_export_command_rejects_bad_option_in_one_line(trained, tmp_path, refusal, arguments, line):
    assert refusal(trained.path, "--out", tmp_path / "out", *arguments).startswith(line)
    assert not (tmp_path / "out").exists()


def test_export_command_rejects_folder_from_which_tensorflow_loads_no_saved_model(trained, tmp_path, refusal):
    """TensorFlow writes there, and then finds no variables."""
    line = refusal(trained.path, "--out", tmp_path / "out [1]", "--formats", "keras,saved_model")
    assert line.startswith("--out: TensorFlow could not load a SavedModel from") and "takes `[` in" in line
    assert not (tmp_path / "out [1]").exists()
    main([str(trained.path), "--out", str(tmp_path / "out [1]"), "--formats", "keras"])
    assert (tmp_path / "out [1]" / "keras" / "generator.keras").is_file()


def test_export_command_rejects_missing_argument_in_one_line(refusal):
    assert refusal("run").startswith("command line: the following arguments are required: --out.")
    assert refusal("--out", "x").startswith("command line: give a run folder, ")


def test_export_command_rejects_unwritable_folder_in_one_line(trained, tmp_path, refusal):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        line = refusal(trained.path, "--out", out)
        assert line.startswith(f"--out: there is a file in place of the folder {out}")
    # Root may write everywhere except here.
    assert re.match("--out: cannot write to /proc/out: ", refusal(trained.path, "--out", "/proc/out"))


def test_export_command_rejects_existing_version_in_one_line(trained, tmp_path, refusal):
    (tmp_path / "out" / "saved_model" / "sagan" / "3").mkdir(parents=True)
    line = refusal(trained.path, "--out", tmp_path / "out", "--version", "3")
    assert "sagan/3: this version exists already. Choose another with --version" in line
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["saved_model"]


def test_export_publishes_no_version_when_another_format_fails(trained, tmp_path, refusal, monkeypatch):
    """Servers that poll the folder would load it."""
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    line = refusal(trained.path, "--out", tmp_path / "out", "--formats", "saved_model,onnx")
    assert line.startswith("ONNX: tf2onnx is not installed.") and not (tmp_path / "out" / "saved_model").exists()


def test_export_help_names_every_format(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    assert f"Choose from {FORMAT_LIST}. (default: saved_model,tflite,keras)" in out


def test_export_module_exits_with_2_and_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["export", "nowhere", "--out", "out"])
    monkeypatch.delitem(sys.modules, "sagan_tf.export.__main__")
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("sagan_tf.export", run_name="__main__")
    assert caught.value.code == 2 and os.listdir(tmp_path) == []
    assert capsys.readouterr().err == "error: nowhere: not a run folder; config.yaml is missing.\n"
