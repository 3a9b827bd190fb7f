"""`sagan push`, and the commands and functions that take `hf://owner/name`, against a server on this machine."""

import html
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from hub_server import hub as hub
from runs.test_evaluations import RESULT
from small_runs import KINDS, make_run

import sagan_tf
import sagan_tf.export
from sagan_tf import attend, push, report, sample
from sagan_tf.commands import push as push_command
from sagan_tf.commands.options import PushOptions, ServeOptions
from sagan_tf.commands.serve import _served_folder
from sagan_tf.errors import UserError
from sagan_tf.experiment.loading import load_model
from sagan_tf.files.hashing import sha256
from sagan_tf.runs import pretrained
from sagan_tf.runs.data_check import check_data
from sagan_tf.runs.folder import Run
from sagan_tf.serving.folders import find_models

pytestmark = [
    pytest.mark.usefixtures("toy_networks", "eager"),
    pytest.mark.filterwarnings("ignore:Even though the"),  # data functions stay graphs
]

NAME = "hf://me/toy"
FINGERPRINT = {
    "name": "/secret/pets", "split": "train", "num_images": 4, "class_names": list(KINDS), "class_counts": [1] * 4,
    "hashes": ["a"],
}  # fmt: skip


@pytest.fixture(scope="module")
def eager():
    """Nothing is traced, which takes longer than to run it once."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def run(tmp_path, toy_networks):
    run = make_run(tmp_path / "secret" / "run", data="/secret/pets")
    run.save_fingerprint(FINGERPRINT)
    run.evaluation_path.mkdir()
    result = RESULT | {"subject": RESULT["subject"] | {"step": 200}}
    (run.evaluation_path / "step_00000200-x.json").write_text(json.dumps(result))
    run.attention_path.mkdir()
    run.attention_picture_path(200).write_bytes(run.sample_path(200).read_bytes())
    return run


@pytest.fixture
def published(hub, run):
    """The files of a run that has been pushed without an export: dict, path -> bytes."""
    paths = [run.config_path, run.generator_path, run.class_names_path]
    files = {path.relative_to(run.path).as_posix(): path.read_bytes() for path in paths}
    hub.commit("me/toy", files)
    return files


def fake_tflite(folded, directory, variants):
    directory.mkdir()
    paths = {variant: directory / f"generator_{variant}.tflite" for variant in variants}
    for path in paths.values():
        path.write_bytes(b"tflite")
    return paths


def fake_samples(folded, names, path):
    path.write_bytes(b"png")
    return path


def test_push_writes_a_repository_that_this_package_and_keras_load(hub, run, monkeypatch, capsys):
    monkeypatch.setattr(push_command, "export_tflite", fake_tflite)
    monkeypatch.setattr(push_command, "save_samples", fake_samples)
    for path in list(run.checkpoints_path.glob("ckpt-200.*")):  # as if training had gone on since the generator
        shutil.copyfile(path, path.with_name(path.name.replace("200", "300")))
    push.main([str(run.path), f"{NAME}@v1", "--license", "mit", "--checkpoint"])
    assert capsys.readouterr().out.endswith(f"/me/toy/commit/{hub.refs['me/toy']['v1']}\n")
    files = hub.files("me/toy", "v1")
    checkpoint = {f"checkpoints/{path.name}" for path in run.checkpoints_path.glob("ckpt-200.*")}
    own = {"generator.keras", "data/class_names.json", *checkpoint}
    assert all(files[path] == (run.path / path).read_bytes() for path in own)
    assert set(files) - own == {
        "README.md", "attention.png", "config.json", "config.yaml", "data/fingerprint.json", "metadata.json",
        "model.weights.h5", "model_card.json", "samples.png", "tflite/generator_dynamic_int8.tflite",
        "tflite/generator_float16.tflite", ".gitattributes",
    }  # fmt: skip
    texts = [content for path, content in files.items() if path.endswith((".md", ".yaml", ".json"))]
    assert not any(b"secret" in text for text in texts)
    assert set(sagan_tf.read_weights(f"{NAME}@v1").networks) == {"generator", "ema_generator", "discriminator"}
    front, _, body = files["README.md"].decode().removeprefix("---\n").partition("---\n")
    assert metrics_of(yaml.safe_load(front)) == [("fid", 31.5)]
    scope = {}
    exec(body.split("```python\n")[2].partition("```")[0], scope)
    assert {type(layer).__module__.partition(".")[0] for layer in scope["model"].layers} == {"keras"}
    inputs = [scope["latents"], np.zeros(8, "int32")]
    np.testing.assert_allclose(scope["images"], load_model(run)(inputs, training=False), atol=1e-5)


def test_push_uploads_step_hash_and_weights_of_one_file_while_training_saves(tmp_path, run, monkeypatch):
    monkeypatch.setattr(push_command, "export_tflite", fake_tflite)
    monkeypatch.setattr(push_command, "save_samples", fake_samples)
    newer = make_run(tmp_path / "newer", steps=(900,), seed=1)
    describe, saved = push_command.describe_training, iter([newer.generator_path])

    def describe_slowly(run):
        training = describe(run)
        for path in saved:
            path.rename(run.generator_path)
        return training

    monkeypatch.setattr(push_command, "describe_training", describe_slowly)
    (tmp_path / "out").mkdir()
    push_command.write_repository(run, tmp_path / "out", PushOptions(run=str(run.path), name=NAME))
    training = json.loads((tmp_path / "out" / "model_card.json").read_text())["training"]
    path = tmp_path / "out" / "generator.keras"
    assert path.read_bytes() == run.generator_path.read_bytes()
    assert (training["step"], training["generator_sha256"]) == (900, sha256(path))
    stock = keras.models.model_from_json((tmp_path / "out" / "config.json").read_text())
    stock.load_weights(tmp_path / "out" / "model.weights.h5")
    inputs = [np.ones((2, 12), "float32"), np.array([0, 3])]
    np.testing.assert_allclose(stock(inputs), load_model(run)(inputs, training=False), atol=1e-5)


def metrics_of(data):
    """Metrics that the Hub's own reader finds in the YAML of a card."""
    from huggingface_hub import ModelCardData

    return [(result.metric_type, result.metric_value) for result in ModelCardData(**data).eval_results]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, which is empty."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture(params=["hub", "package"])
def subject(request, published, run, here, tmp_path, monkeypatch):
    """Arguments that name a generator without a discriminator, of the Hub or of the package."""
    if request.param == "hub":
        return [NAME]
    for path, content in published.items():
        (tmp_path / "weights" / "toy" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "weights" / "toy" / path).write_bytes(content)
    monkeypatch.setattr(pretrained, "_WEIGHTS", tmp_path / "weights")
    return ["--pretrained", "toy"]


def test_commands_write_beside_the_user_what_they_draw_of_other_runs(subject, here, capsys):
    folder = "hub/me/toy" if subject == [NAME] else "pretrained/toy"  # `toy` could be the name of a data set
    sample.main([*subject, "--columns", "1"])
    grid = f"{folder}/pictures/grid.png"
    assert capsys.readouterr().out == f"{grid}\n" and (here / grid).is_file()
    attend.main([*subject, "--images", "1", "--measured", "1"])
    out, err = capsys.readouterr()
    assert err.startswith("The discriminator is left out: toy has no checkpoint")
    assert "generator  attention_16" in out and "discriminator" not in out
    if subject == [NAME]:
        report.main(subject)
        assert f"sagan_tf.load_run({NAME!r})" in html.unescape((here / folder / "report.html").read_text())
    assert {path.relative_to(here).parts[0] for path in here.rglob("*")} == {folder.partition("/")[0]}


def test_serve_exports_what_is_no_folder(subject, monkeypatch):
    def export(model, folder):
        (folder / "1").mkdir(parents=True)
        (folder / "1" / "saved_model.pb").write_bytes(b"")

    monkeypatch.setattr(sagan_tf.export, "export_saved_model", export)
    options = dict(zip(("folder",) if len(subject) == 1 else ("pretrained",), subject[-1:]))
    with _served_folder(ServeOptions(**options)) as folder:
        assert list(find_models(folder)) == ["toy"]


@pytest.mark.parametrize("arguments", [[], ["run", "--pretrained", "twins"]])
def test_commands_take_one_subject(command_error, arguments):
    assert "give a run folder, hf://owner/name or --pretrained NAME" in command_error(sample.main, *arguments)


def test_attend_needs_a_checkpoint_for_the_discriminator(published, command_error):
    for options in (["--network", "discriminator"], ["--pictures", "real"]):
        assert "there is no checkpoint, which alone holds the discrim" in command_error(attend.main, NAME, *options)


def test_messages_name_the_repository_and_not_the_cache(hub, published, run, command_error):
    hub.commit("me/toy", published | {"data/fingerprint.json": run.fingerprint_path.read_bytes()})
    assert command_error(sample.main, NAME, "--step", "7") == f"{NAME}: has no checkpoint of step 7; it has none."
    with pytest.raises(UserError, match=f"^{NAME}: the data, other, are not those of the run"):
        check_data(Run.open(NAME), FINGERPRINT | {"name": "other", "class_names": ["a"]}, allow_change=False)


def test_repository_without_a_generator_is_named(hub, published):
    del published["generator.keras"]
    hub.commit("me/toy", published)
    with pytest.raises(UserError, match="^hf://me/toy: not a run folder; generator.keras is missing. `sagan push RUN"):
        sagan_tf.load_run(NAME)


def test_generator_of_the_hub_is_not_trusted(hub, published, tmp_path):
    latent = keras.Input((12,))
    keras.Model(latent, keras.layers.Embedding(2, 2)(latent)).save(tmp_path / "other.keras")
    for content, message in (
        (b"no archive", ""),
        ((tmp_path / "other.keras").read_bytes(), "a generator has no keras"),
    ):
        hub.commit("me/toy", published | {"generator.keras": content})
        for load in (sagan_tf.load_run, sagan_tf.read_weights):
            with pytest.raises(UserError, match=f"generator.keras: cannot be loaded as a generator.*{message}"):
                load(NAME)
