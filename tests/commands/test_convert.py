"""The convert command makes a run folder from PyTorch checkpoints, with the same outputs as in PyTorch."""

import dataclasses
import json
import pickle
import zipfile
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from parity import recipe
from parity.goldens import golden, relative_error
from small_runs import make_run

import sagan_tf
from sagan_tf import sample
from sagan_tf.commands.attention_results import AttentionReader
from sagan_tf.commands.convert import convert_checkpoints
from sagan_tf.commands.options import AttendOptions
from sagan_tf.conversion.files import read_state_dict
from sagan_tf.conversion.pytorch import convert_state_dict
from sagan_tf.convert import main
from sagan_tf.errors import UserError
from sagan_tf.experiment.build import build_networks
from sagan_tf.experiment.checkpoints import make_checkpoint
from sagan_tf.experiment.start import prepare_start
from sagan_tf.experiment.train import train
from sagan_tf.export.__main__ import main as export
from sagan_tf.networks.named_weights import weights_by_name
from sagan_tf.runs.folder import Run
from sagan_tf.training import SAGAN

LAYOUT = "studiogan"


@pytest.fixture
def checkpoints(tmp_path):
    paths = {}
    for part in ("generator", "discriminator"):
        shapes = json.loads(str(golden(f"torch_{LAYOUT}")[f"{part}_shapes"]))
        paths[part] = tmp_path / f"{part}.npz"
        np.savez(paths[part], **recipe.torch_values(shapes))
    return paths


def network_inputs(name):
    values = recipe.torch_inputs(LAYOUT)
    return [ops.convert_to_tensor(values[name]), ops.convert_to_tensor(values["label"].astype("int32"))]


def run_command(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


def test_convert_matches_pytorch_outputs(checkpoints, tmp_path, capsys):
    main([*map(str, checkpoints.values()), "--out", str(tmp_path / "run"), "--data", "cifar10"])
    out = capsys.readouterr().out
    assert "generator of studiogan, 32 px, base width 4, 5 classes, attention at 16" in out
    assert "discriminator of studiogan, 32 px, base width 8, 5 classes, attention at 16" in out
    run = Run.open(tmp_path / "run")
    generator = keras.models.load_model(run.generator_path)
    assert relative_error(generator(network_inputs("latent")), golden(f"torch_{LAYOUT}")["image"]) < 5e-6
    config = run.config()
    assert (config.data.name, config.data.image_size) == ("cifar10", 32)
    gan = SAGAN(*build_networks(config, 5), ema_decay=None)
    gan.compile()
    latest = tf.train.latest_checkpoint(str(run.checkpoints_path))
    make_checkpoint(gan, optimizers=False).restore(latest).expect_partial().assert_existing_objects_matched()
    assert relative_error(gan.discriminator(network_inputs("image")), golden(f"torch_{LAYOUT}")["logit"]) < 5e-6


def test_training_starts_from_a_converted_run(checkpoints, tmp_path):
    """All of its weights are taken; its classes, which have no names, by their numbers."""
    converted = tmp_path / "converted"
    main([*map(str, checkpoints.values()), "--out", str(converted)])
    config = Run.open(converted).config()
    training = dataclasses.replace(config.training, start_from=str(converted))
    config = dataclasses.replace(config, run=str(tmp_path / "run"), training=training)
    start = prepare_start(config, FiveClasses)
    assert {part.outcome for part in start.transfer.parts} == {"taken"}
    taken = (start.gan.generator, start.gan.ema_generator, start.gan.discriminator)
    image, logit = golden(f"torch_{LAYOUT}")["image"], golden(f"torch_{LAYOUT}")["logit"]
    for network, name, expected in zip(taken, ("latent", "latent", "image"), (image, image, logit), strict=True):
        assert relative_error(network(network_inputs(name)), expected) < 5e-6


class FiveClasses:
    """What starting from weights asks a data set."""

    num_classes, class_names = 5, [*"abcde"]


def test_sample_attend_and_export_accept_a_converted_run(checkpoints, tmp_path):
    run = tmp_path / "run"
    main([*map(str, checkpoints.values()), "--out", str(run)])
    sample.main([str(run), "--out", str(tmp_path / "pictures"), "--columns", "2"])
    reader = AttentionReader(Run.open(run), AttendOptions(run=str(run), pictures="generated"))
    export([str(run), "--out", str(tmp_path / "exported"), "--formats", "keras"])
    assert list((tmp_path / "pictures").glob("*.png"))
    assert {name: [*probe.layers] for name, probe in reader._probes.items()} == {
        "generator": ["attention_16"], "discriminator": ["attention_16"],
    }  # fmt: skip
    assert (tmp_path / "exported" / "keras" / "generator.keras").is_file()


def test_convert_reads_the_generator_of_heykeetae(tmp_path, capsys, command_error):
    data, paths = golden("torch_heykeetae"), {}
    for name in ("shapes", "discriminator_shapes"):
        paths[name] = tmp_path / f"{name}.npz"
        values = recipe.torch_values(json.loads(str(data[name])))
        np.savez(paths[name], **{f"module.{key}": value for key, value in values.items()})
    folder, generator = tmp_path / "run", paths["shapes"]
    for arguments in ([paths["discriminator_shapes"]], [generator, paths["discriminator_shapes"]],
                      [generator, "--channel_order", "rgb"]):  # fmt: skip
        assert "heykeetae" in command_error(main, *arguments, "--out", folder) and not folder.exists()
    main([str(generator), "--out", str(folder), "--data", "celeba"])
    assert f"64 px, {recipe.LATENT_DIM} latent dimensions, no classes, attention at 16, 32" in capsys.readouterr().out
    run = sagan_tf.load_run(folder)
    image = run.model(recipe.torch_inputs("heykeetae")["latent"], training=False)
    assert relative_error(np.asarray(image), data["image"]) < 5e-6
    assert list(run.attention([0])) == ["attention_16", "attention_32"]
    with pytest.raises(UserError, match="holds a generator, which training would replace"):
        train(Run.open(folder).config())
    export([str(folder), "--out", str(tmp_path / "exported"), "--formats", "keras,tflite"])
    assert {path.parts[-2] for path in (tmp_path / "exported").rglob("generator*.*")} >= {"keras", "tflite"}


def test_convert_accepts_generator_without_discriminator(checkpoints, tmp_path):
    main([str(checkpoints["generator"]), "--out", str(tmp_path / "run")])
    assert Run.open(tmp_path / "run").generator_path.exists()


def test_convert_rejects_bad_input_in_one_line_and_writes_nothing(checkpoints, tmp_path, capsys):
    out, generator, discriminator = tmp_path / "run", checkpoints["generator"], checkpoints["discriminator"]
    (tmp_path / "text.npz").write_text("not an archive")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for arguments, message in (
        ([tmp_path / "nowhere.pth", "--out", out], "does not exist"),
        ([tmp_path / "full", "--out", out], "a run is converted with --to"),
        (["hf://owner/run", "--out", out], "hf://owner/run: must be a file"),
        ([tmp_path / "text.npz", "--out", out], "cannot be read as a checkpoint"),
        ([discriminator, "--out", out], "contains a discriminator, expected a generator"),
        ([generator, generator, "--out", out], "contains a generator, expected a discriminator"),
        ([generator, "--out", tmp_path / "full"], "is not empty"),
        ([generator, "--out", tmp_path / "full" / "file"], "a file is in the way. Name a new folder with --out"),
        ([generator, "--out", tmp_path / "a[b]"], "must not contain `[`"),
        ([generator, "--out", "hf://me/x"], "--out: hf://me/x is a repository of the Hub"),
        ([generator, "--out", out, "--channel_order", "bgr"], "is of studiogan"),
        ([generator], "--out"),
    ):
        assert run_command(*arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and message in error
        assert not out.exists()


@pytest.mark.parametrize("at", ["sagan_tf.commands.convert.save_generator", "tensorflow.train.CheckpointManager.save"])
def test_convert_leaves_nothing_when_interrupted(checkpoints, tmp_path, monkeypatch, at):
    """A run folder without weights would be trained from scratch."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(at, mock.Mock(side_effect=KeyboardInterrupt))
        convert_checkpoints(*checkpoints.values(), tmp_path / "run", "cifar10")
    assert {path.suffix for path in tmp_path.iterdir()} == {".npz"}
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    run, _ = convert_checkpoints(*checkpoints.values(), ".", "cifar10")
    assert run.checkpoint_steps() == [0] and (tmp_path / "run" / "generator.keras").exists()


def test_convert_computes_in_float32_from_half_precision(checkpoints, tmp_path):
    """1 + gain in float16 would lose three digits of the gain."""
    with np.load(checkpoints["generator"]) as archive:
        halves = {name: value.astype(np.float16) for name, value in archive.items()}
    results = []
    for kind in (np.float16, np.float32):
        np.savez(tmp_path / "same.npz", **{name: value.astype(kind) for name, value in halves.items()})
        results.append(convert_state_dict(read_state_dict(tmp_path / "same.npz")).values)
    for name, value in results[1].items():
        np.testing.assert_array_equal(results[0][name], value)


class TensorUnpickler(pickle.Unpickler):
    """Reads the pickle of torch.save as PyTorch does, into NumPy arrays; refuses any other call."""

    def __init__(self, archive):
        super().__init__(archive.open("archive/data.pkl"))
        self.archive = archive

    def find_class(self, module, name):
        functions = {"torch._utils._rebuild_tensor_v2": self.rebuild, "torch.FloatStorage": np.float32}
        return {**functions, "collections.OrderedDict": dict}[f"{module}.{name}"]

    def persistent_load(self, storage):
        kind, dtype, key, device, size = storage
        assert (kind, device) == ("storage", "cpu")
        values = np.frombuffer(self.archive.read(f"archive/data/{key}"), dtype)
        assert values.size == size
        return values

    @staticmethod
    def rebuild(values, offset, shape, strides, requires_grad, hooks):
        assert (offset, requires_grad, hooks) == (0, False, {})
        return np.lib.stride_tricks.as_strided(values, shape, [4 * stride for stride in strides])


def read_torch(path):
    with zipfile.ZipFile(path) as archive:
        return convert_state_dict(TensorUnpickler(archive).load())


def test_convert_writes_a_run_for_biggan_pytorch(tmp_path, capsys, command_error):
    run, there, full = make_run(tmp_path / "run", attention_sizes=()), tmp_path / "there", tmp_path / "full"
    arguments = [str(run.path), "--to", "biggan_pytorch", "--out"]
    main([*arguments, str(there)])
    generator, discriminator = read_torch(there / "G_ema.pth"), read_torch(there / "D.pth")
    for key, weight in weights_by_name(keras.models.load_model(run.generator_path)).items():
        is_gain = weight.ndim == 2 and key.endswith("gamma")  # 1 was subtracted and added
        np.testing.assert_allclose(generator.values[key], weight, rtol=0, atol=2**-24 if is_gain else 0)
    assert (discriminator.part, discriminator.options["num_classes"]) == ("discriminator", 4)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("G_ema.pth: Generator(G_ch=4, dim_z=12, G_attn='0', G_param='SN', resolution=32, "
                             "n_classes=4, G_shared=False)")  # fmt: skip
    assert lines[1].endswith("D.pth: Discriminator(D_ch=2, D_attn='0', resolution=32, n_classes=4)")

    config = run.config_path.read_text()
    run.config_path.write_text(config.replace("activate_skip: false", "activate_skip: true"))
    main([*arguments, str(full)])
    assert "left out: activate_skip is True" in capsys.readouterr().out
    assert [path.name for path in full.iterdir()] == ["G_ema.pth"]

    there, attentive = tmp_path / "elsewhere", make_run(tmp_path / "attentive")
    for wrong, message in (
        ([attentive.path, *arguments[1:], there], "generator cannot be converted: key_reduction is 4"),
        ([*arguments, full], "is not empty"),
        ([tmp_path, *arguments[1:], there], "not a run folder"),
        ([run.path, "D.pth", *arguments[1:], there], "takes one run folder"),
        ([*arguments, there, "--relu_in_place", "no"], "--relu_in_place: is for checkpoints that are read"),
    ):
        assert message in command_error(main, *wrong)
        assert not there.exists()


def test_read_state_dict_reads_torch_save(checkpoints, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    state = {name: torch.from_numpy(value) for name, value in read_state_dict(checkpoints["generator"]).items()}
    counters = {"epoch": 3, "best_fid": np.float64(9.5), "best_step": np.int64(7), "history": np.ones(3)}
    torch.save({"state_dict": state, **counters}, tmp_path / "model.pth")
    actual = read_state_dict(tmp_path / "model.pth")
    for name, value in read_state_dict(checkpoints["generator"]).items():
        np.testing.assert_array_equal(actual[name], value.astype(np.float32))
    (tmp_path / "broken.pth").write_bytes((tmp_path / "model.pth").read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        read_state_dict(tmp_path / "broken.pth")
