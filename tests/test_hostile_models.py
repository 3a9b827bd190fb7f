"""Hostile or damaged models: checkpoints, `.keras` files, state dicts of other projects.

Each works or is rejected in one line; no code in it runs, and its claims do not allocate memory.
"""

import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from damage import damage, one_line_or_none, peak_growth, places, replaced, rewrite_config, rewrite_member, tries
from hypothesis import given
from hypothesis import strategies as st
from parity import recipe
from parity.goldens import golden
from small_runs import make_run

from sagan_tf import attend, convert, report, sample
from sagan_tf.conversion.files import read_state_dict
from sagan_tf.errors import UserError
from sagan_tf.evaluation.features import open_features
from sagan_tf.evaluation.statistics import read_statistics
from sagan_tf.experiment.build import build_networks
from sagan_tf.experiment.checkpoints import make_checkpoint, make_manager, restore_latest
from sagan_tf.experiment.loading import load_model, restore_networks
from sagan_tf.export import __main__ as export
from sagan_tf.files import untrusted
from sagan_tf.generation.folding import fold_generator
from sagan_tf.generation.sampler import Sampler
from sagan_tf.runs.folder import Run
from sagan_tf.training import SAGAN

STEPS = (20, 40)
CHECKPOINTS = [f"ckpt-{step}.{kind}" for step in STEPS for kind in ("index", "data-00000-of-00001")]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run") / "run", steps=STEPS)


@pytest.fixture(scope="module")
def gan(run):
    gan = SAGAN(*build_networks(run.config(), 4), ema_decay=run.config().training.ema_decay)
    gan.compile()
    return gan


def copy_of(run, folder):
    shutil.copytree(run.path, folder / "run")
    return Run(folder / "run")


def state(gan):
    return [np.array(variable) for variable in gan.variables]


@pytest.fixture(scope="module")
def states(run, gan):
    """A function step -> true weights; not the weights, which a failing test would print."""
    weights = {}
    for step in STEPS:
        make_checkpoint(gan).restore(str(run.checkpoints_path / f"ckpt-{step}")).assert_consumed()
        weights[step] = state(gan)
    return lambda step: weights[step]


@tries(12)
@given(changes=st.dictionaries(st.sampled_from([*CHECKPOINTS, "checkpoint"]), damage(), min_size=1, max_size=3))
def test_restore_latest_gives_true_weights_or_none_when_damaged(run, gan, states, tmp_path_factory, changes):
    broken = copy_of(run, tmp_path_factory.mktemp("broken"))
    for name, change in changes.items():
        path = broken.checkpoints_path / name
        path.write_bytes(change(path.read_bytes()))
    before = {path.name: path.read_bytes() for path in broken.checkpoints_path.iterdir()}
    with one_line_or_none():
        restore_latest(gan, broken)
        step = int(gan.step.numpy())
        for restored, expected in zip(state(gan), states(step), strict=True):
            np.testing.assert_array_equal(restored, expected)
        assert step == 40 or any(name.startswith("ckpt-40.") for name in changes)
        make_manager(gan, broken, 2).save(checkpoint_number=step + 1)
        assert str(broken.checkpoints_path / f"ckpt-{step + 1}") in broken.checkpoints()
        return
    # Nothing is restored or removed.
    assert {path.name: path.read_bytes() for path in broken.checkpoints_path.iterdir()} == before


def test_checkpoint_manager_removes_old_checkpoints_after_restarts(run, gan, tmp_path):
    # Found by tests/stress/kill_and_resume.py: TensorFlow forgot old checkpoints; after 37 kills there were 30.
    again = copy_of(run, tmp_path)
    restore_latest(gan, again)
    for step in (41, 42, 43):
        manager = make_manager(gan, again, 2)
        gan.step.assign(step)
        manager.save(checkpoint_number=step)
    assert [path.rpartition("-")[2] for path in again.checkpoints()] == ["43", "42"]


@tries(5)
@given(name=st.sampled_from(CHECKPOINTS[2:]), change=damage())
def test_restore_networks_rejects_damaged_checkpoint(run, tmp_path_factory, name, change):
    broken = copy_of(run, tmp_path_factory.mktemp("broken"))
    path = broken.checkpoints_path / name
    path.write_bytes(change(path.read_bytes()))
    with one_line_or_none():
        assert restore_networks(broken, discriminator=True).step == 40


@pytest.mark.parametrize("name", CHECKPOINTS[2:])
@pytest.mark.parametrize("kind", ["folder", "circle", "foreign"])
def test_restore_latest_skips_damaged_checkpoint_files(run, gan, tmp_path, capsys, name, kind):
    broken = copy_of(run, tmp_path)
    path = broken.checkpoints_path / name
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "circle":
        path.symlink_to(path)
    else:
        other = tf.train.Checkpoint(v=tf.Variable(1.0)).write(str(tmp_path / "other"))
        shutil.copy(f"{other}.{name.partition('.')[2]}", path)
    restore_latest(gan, broken)
    assert int(gan.step.numpy()) == 20 and "Resuming from step 20" in capsys.readouterr().out


VALUES = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["relu", "valid", "float16", [], {}, [2, 2], [None], 2**30, "keras.layers", "Lambda"])
)  # fmt: skip


@tries(12)
@given(data=st.data())
def test_load_generator_accepts_or_rejects_edited_generator(run, tmp_path_factory, data):
    other = Run(tmp_path_factory.mktemp("run"))

    def change(config):
        return replaced(config, data.draw(st.sampled_from(list(places(config)))), data.draw(VALUES))

    rewrite_config(run.generator_path, other.generator_path, change)
    with one_line_or_none():
        sampler = Sampler(fold_generator(load_model(other)), batch_size=2)
        labels = None if sampler.num_classes is None else [0]
        assert sampler.sample([0], labels).shape == (1, *sampler.image_shape)


def test_load_generator_rejects_unknown_output_size(run, tmp_path):
    """Such a generator works but cannot be folded; found by the test above."""

    def change(config):
        (reshape,) = [layer for layer in config["config"]["layers"] if layer["class_name"] == "Reshape"]
        reshape["config"]["target_shape"][-1] = None
        return config

    other = Run(tmp_path)
    rewrite_config(run.generator_path, other.generator_path, change)
    with pytest.raises(UserError, match="has an output of unknown size"):
        load_model(other)


def small_keras_file(folder, config=None, weights=None):
    """A run whose generator file has a kilobyte, with any config and weights."""
    other = Run(folder)
    with zipfile.ZipFile(other.generator_path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("metadata.json", "{}")
        file.writestr("config.json", json.dumps(config or {}))
        if weights is not None:
            file.writestr("model.weights.h5", weights)
    return other


def test_load_generator_rejects_zip_bomb_without_using_memory(tmp_path):
    other = small_keras_file(tmp_path, weights=bytes(400 << 20))
    assert other.generator_path.stat().st_size < 4 << 20

    def load():
        with pytest.raises(UserError, match="claims to unpack to 400.0 MiB"):
            load_model(other)

    assert peak_growth(load) < untrusted.FLOOR_BYTES


def test_load_generator_rejects_huge_arrays_without_using_memory(run, tmp_path):
    def change(content):
        file = io.BytesIO(content)
        with h5py.File(file, "a") as weights:
            # It has no chunks; reading it would return zeros.
            weights.create_dataset("layers/more", (1 << 16, 1 << 14), "float32", chunks=(64, 64))
        return file.getvalue()

    other = Run(tmp_path)
    rewrite_member(run.generator_path, other.generator_path, "model.weights.h5", change)

    def load():
        with pytest.raises(UserError, match="claims to unpack to 4.0 GiB"):
            load_model(other)

    assert peak_growth(load) < untrusted.FLOOR_BYTES


def change_weights(content):
    file = io.BytesIO(content)
    with h5py.File(file, "a") as weights:
        weights.create_dataset("huge", (10**9,), "f4", chunks=(10**6,), compression="gzip", fillvalue=0.0)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["units", "arrays", "zip", "device"])
def test_open_features_rejects_huge_claims_without_using_memory(tmp_path, kind):
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Dense(4, name="dense")(keras.layers.Flatten()(inputs)))
    model.save(tmp_path / "good.keras")
    path = tmp_path / "bad.keras"
    if kind == "units":
        rewrite_config(tmp_path / "good.keras", path, lambda config: json.loads(
            json.dumps(config).replace('"units": 4,', '"units": 400000000,')))
    elif kind == "arrays":
        rewrite_member(tmp_path / "good.keras", path, "model.weights.h5", change_weights)
    elif kind == "zip":
        shutil.copy(tmp_path / "good.keras", path)
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("zeros", "w") as member:
            for _ in range(300):
                member.write(bytes(1 << 20))
    else:
        path.symlink_to("/dev/zero")
    assert open_features(str(tmp_path / "good.keras")).dimensions == 192

    def read():
        with pytest.raises(UserError, match="bad.keras"):
            open_features(str(path))

    assert peak_growth(read) < 2**27


@pytest.mark.parametrize("kind", ["keras", "saved_model"])
@pytest.mark.parametrize("is_nested", [False, True])
def test_open_features_rejects_huge_maps_without_using_memory(tmp_path, kind, is_nested):
    inputs = keras.Input((32, 32, 3))
    maps = keras.layers.UpSampling2D(300)(inputs)
    features = keras.layers.GlobalAveragePooling2D()(maps)
    if is_nested:
        features = keras.Model(inputs, features)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(features))
    path = tmp_path / f"bad.{kind}"
    model.save(path) if kind == "keras" else model.export(path, verbose=False)

    def read():
        with pytest.raises(UserError, match=f"bad.{kind}.* values per image"):
            open_features(str(path))

    assert peak_growth(read) < 2**27


def test_load_generator_rejects_networks_in_it(run, tmp_path):
    generator = keras.models.load_model(run.generator_path, compile=False)
    inputs = [keras.Input(tensor.shape[1:], dtype=tensor.dtype) for tensor in generator.inputs]
    other = Run(tmp_path)
    keras.Model(inputs, generator(inputs if len(inputs) > 1 else inputs[0])).save(other.generator_path)
    with pytest.raises(UserError, match="a generator has no network in it"):
        load_model(other)


def test_read_statistics_rejects_zip_bomb_without_using_memory(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", mu=np.zeros(2), sigma=np.eye(2), features=np.zeros((1 << 20, 128), "f4"))

    def read():
        with pytest.raises(UserError, match="claims to unpack to 512.0 MiB"):
            read_statistics(tmp_path / "bomb.npz")

    assert peak_growth(read) < 2**27


@pytest.mark.parametrize("name", ["units", "filters", "num_classes", "batch_shape"])
def test_load_generator_rejects_huge_layers_without_using_memory(run, tmp_path, name):
    def enlarged(value):
        if isinstance(value, dict):
            return {key: big if key == name else enlarged(inner) for key, inner in value.items()}
        return [enlarged(inner) for inner in value] if isinstance(value, list) else value

    big = [None, 1 << 30] if name == "batch_shape" else 1 << 28
    other = Run(tmp_path)
    rewrite_config(run.generator_path, other.generator_path, enlarged)

    def load():
        with pytest.raises(UserError, match="cannot be loaded as a generator of sagan_tf"):
            load_model(other)

    assert peak_growth(load) < untrusted.FLOOR_BYTES


@pytest.mark.parametrize(
    ("layer", "options"),
    [("StringLookup", {"vocabulary": "/etc/hostname"}), ("TFSMLayer", {"filepath": "/tmp"}), ("Lambda", {})],
)
def test_load_generator_rejects_layers_that_access_files_or_code(run, tmp_path, layer, options):
    def change(config):
        config["config"]["layers"][2] |= {"module": "keras.layers", "class_name": layer, "config": options}
        return config

    other = Run(tmp_path)
    rewrite_config(run.generator_path, other.generator_path, change)
    with pytest.raises(UserError, match=f"a generator has no keras.layers.{layer}"):
        load_model(other)


def ends_with_one_line(capsys, command, *arguments):
    with pytest.raises(SystemExit) as stop:
        command.main([str(argument) for argument in arguments])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    return error


@pytest.mark.parametrize("kind", ["cut", "nan", "folder", "newer"])
def test_commands_reject_damaged_run_in_one_line_and_write_nothing(run, tmp_path, capsys, kind):
    broken, out = copy_of(run, tmp_path), tmp_path / "out"
    if kind == "cut":
        content = broken.generator_path.read_bytes()
        broken.generator_path.write_bytes(content[: len(content) // 2])
    elif kind == "folder":
        broken.generator_path.unlink()
        broken.generator_path.mkdir()
    elif kind == "nan":
        model = keras.models.load_model(broken.generator_path)
        model.weights[1].assign(model.weights[1] * np.nan)
        model.save(broken.generator_path)
    else:
        broken.config_path.write_text(broken.config_path.read_text() + "invented_later: 5\n")
        assert "invented_later" in ends_with_one_line(capsys, report, broken.path, "--out", out)
        for path in broken.checkpoints_path.glob("ckpt-*.index"):
            path.unlink()  # otherwise `sample` does not need the config
    commands = (attend, export) if kind == "newer" else (sample, attend, export)
    for command in commands:
        ends_with_one_line(capsys, command, broken.path, "--out", out)
        assert not out.exists()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A state dict of PyTorch-StudioGAN's generator as bytes of an `.npz` file."""
    shapes = json.loads(str(golden("torch_studiogan")["generator_shapes"]))
    path = tmp_path_factory.mktemp("state") / "generator.npz"
    np.savez(path, **recipe.torch_values(shapes))
    return path.read_bytes()


def converted(content, folder):
    """Converts the bytes of an `.npz` file; there is a complete run folder or none."""
    (folder / "state.npz").write_bytes(content)
    with one_line_or_none():
        convert_checkpoints(folder / "state.npz", None, folder / "run", "cifar10")
        assert Run(folder / "run").generator_path.is_file()
        return
    assert not (folder / "run").exists()


def convert_checkpoints(*arguments):
    from sagan_tf.commands.convert import convert_checkpoints

    return convert_checkpoints(*arguments)


@tries(15)
@given(change=damage())
def test_convert_accepts_or_rejects_damaged_state_dict(archive, tmp_path_factory, change):
    converted(change(archive), tmp_path_factory.mktemp("converted"))


ARRAYS = st.sampled_from(
    [np.zeros(0), np.zeros((2**40, 0)), np.float32(1), np.ones(3), np.ones((1, 1, 1, 1, 1)), np.array(["text"]),
     np.array([np.nan]), np.ones((2**12, 1, 1, 1), np.int8), np.zeros((4, 4), bool), np.ones((5, 5), complex)]
)  # fmt: skip


@tries(15)
@given(data=st.data(), kind=st.sampled_from(["other", "removed", "added", "transposed"]))
def test_convert_accepts_or_rejects_edited_state_dict(archive, tmp_path_factory, data, kind):
    with np.load(io.BytesIO(archive)) as file:
        arrays = dict(file)
    name = data.draw(st.sampled_from(sorted(arrays)))
    if kind == "removed":
        del arrays[name]
    elif kind == "transposed":
        arrays[name] = arrays[name].T
    else:
        new = name if kind == "other" else data.draw(st.text(max_size=8)).replace("/", "")
        arrays[new] = data.draw(ARRAYS)
    file = io.BytesIO()
    np.savez(file, **arrays)
    converted(file.getvalue(), tmp_path_factory.mktemp("converted"))


def npy(shape, content=b""):
    """A `.npy` file that claims a shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue() + content


@pytest.mark.parametrize("shape", [(1 << 36,), (1 << 62,), (1 << 20, 1 << 20, 1 << 30)])
def test_read_state_dict_rejects_huge_arrays_without_using_memory(tmp_path, shape):
    path = tmp_path / "state.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("blocks.0.0.conv2d1.weight.npy", npy(shape))

    def read():
        with pytest.raises(UserError, match="cannot be read as a checkpoint"):
            read_state_dict(path)

    assert peak_growth(read) < untrusted.FLOOR_BYTES


def test_read_state_dict_rejects_zip_bomb_without_using_memory(tmp_path):
    path = tmp_path / "state.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("weight.npy", npy((100 << 20,), bytes(400 << 20)))

    def read():
        with pytest.raises(UserError, match="claims to unpack to 400.0 MiB"):
            read_state_dict(path)

    assert peak_growth(read) < untrusted.FLOOR_BYTES


def test_read_state_dict_rejects_repeated_numbers_without_using_memory(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"weight": torch.zeros(1).expand(1 << 32)}, tmp_path / "state.pth")

    def read():
        with pytest.raises(UserError, match="claims to unpack to 16.0 GiB"):
            read_state_dict(tmp_path / "state.pth")

    assert peak_growth(read) < untrusted.FLOOR_BYTES


class Trap:
    """An object whose pickle creates a folder when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_read_state_dict_runs_no_code(tmp_path, capsys):
    trap = tmp_path / "ran"
    np.savez(tmp_path / "state.npz", weight=np.array([Trap(trap)], object))
    (tmp_path / "state.pth").write_bytes(pickle.dumps({"weight": Trap(trap)}))
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as file:  # as torch.save writes it
        file.writestr("archive/data.pkl", pickle.dumps({"weight": Trap(trap)}))
        file.writestr("archive/version", "3\n")
    for name in ("state.npz", "state.pth", "zip.pth"):
        # Without PyTorch the error says that it is needed.
        line = ends_with_one_line(capsys, convert, tmp_path / name, "--out", tmp_path / "run")
        assert "cannot be read as a checkpoint" in line or "needs PyTorch" in line
    assert not trap.exists() and not Path(tmp_path / "run").exists()


def test_load_generator_rejects_layer_built_for_another_shape(run, tmp_path):
    def change(config):
        (dense,) = (layer for layer in config["config"]["layers"] if layer["config"].get("name") == "dense")
        dense["build_config"]["input_shape"][1] = None
        return config

    other = Run(tmp_path / "other")
    other.path.mkdir()
    rewrite_config(run.generator_path, other.generator_path, change)
    with pytest.raises(UserError):
        load_model(other)
