"""Hostile or damaged models: checkpoints, `.keras` files, state dicts of other projects.

Each works or is rejected in one line; no code in it runs, and its claims do not allocate memory.
"""

import io
import json
import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from damage import (
    assert_refused_in_little_memory,
    damage,
    one_line_or_none,
    places,
    replaced,
    rewrite_config,
    rewrite_member,
    tries,
)
from hypothesis import given
from hypothesis import strategies as st
from small_runs import make_run
from toy_networks import toy_networks as toy_networks

from sagan_tf import attend, report, sample
from sagan_tf.errors import UserError
from sagan_tf.evaluation.features import open_features
from sagan_tf.evaluation.statistics import read_statistics
from sagan_tf.experiment.build import build_networks
from sagan_tf.experiment.checkpoints import make_checkpoint, make_manager, restore_latest
from sagan_tf.experiment.loading import load_model, restore_networks
from sagan_tf.export import __main__ as export
from sagan_tf.generation.folding import fold_generator
from sagan_tf.generation.sampler import Sampler
from sagan_tf.runs.folder import Run
from sagan_tf.training import SAGAN

pytestmark = pytest.mark.usefixtures("toy_networks")

STEPS = (20, 40)
CHECKPOINTS = [f"ckpt-{step}.{kind}" for step in STEPS for kind in ("index", "data-00000-of-00001")]


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy_networks):
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


@tries(6)
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
def test_restore_networks_skips_damaged_checkpoint(run, tmp_path_factory, name, change):
    broken = copy_of(run, tmp_path_factory.mktemp("broken"))
    path = broken.checkpoints_path / name
    path.write_bytes(change(path.read_bytes()))
    assert restore_networks(broken, discriminator=True).step in (40, 20)  # damage may change nothing
    with one_line_or_none():
        assert restore_networks(broken, 40, discriminator=True).step == 40


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


@tries(6)
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


def test_load_generator_rejects_unknown_output_size(tmp_path):
    """Such a generator works but cannot be folded; found by the test above."""

    def change(config):
        (reshape,) = [layer for layer in config["config"]["layers"] if layer["class_name"] == "Reshape"]
        reshape["config"]["target_shape"][-1] = None
        return config

    run, other = make_run(tmp_path / "run", steps=(), attention_sizes=()), Run(tmp_path)
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
    assert_refused_in_little_memory(lambda: load_model(other), "claims to unpack to 400.0 MiB")


def test_load_generator_rejects_huge_arrays_without_using_memory(run, tmp_path):
    def change(content):
        file = io.BytesIO(content)
        with h5py.File(file, "a") as weights:
            # It has no chunks; reading it would return zeros.
            weights.create_dataset("layers/more", (1 << 16, 1 << 14), "float32", chunks=(64, 64))
        return file.getvalue()

    other = Run(tmp_path)
    rewrite_member(run.generator_path, other.generator_path, "model.weights.h5", change)
    assert_refused_in_little_memory(lambda: load_model(other), "claims to unpack to 4.0 GiB")


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
        rewrite_config(
            tmp_path / "good.keras",
            path,
            lambda config: json.loads(json.dumps(config).replace('"units": 4,', '"units": 400000000,')),
        )
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
    assert_refused_in_little_memory(lambda: open_features(str(path)), "bad.keras", 2**27)


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
    assert_refused_in_little_memory(lambda: open_features(str(path)), f"bad.{kind}.* values per image", 2**27)


def test_load_generator_rejects_networks_in_it(run, tmp_path):
    generator = keras.models.load_model(run.generator_path, compile=False)
    inputs = [keras.Input(tensor.shape[1:], dtype=tensor.dtype) for tensor in generator.inputs]
    other = Run(tmp_path)
    keras.Model(inputs, generator(inputs if len(inputs) > 1 else inputs[0])).save(other.generator_path)
    with pytest.raises(UserError, match="a generator has no network in it"):
        load_model(other)


def test_read_statistics_rejects_zip_bomb_without_using_memory(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", mu=np.zeros(2), sigma=np.eye(2), features=np.zeros((1 << 20, 128), "f4"))
    assert_refused_in_little_memory(
        lambda: read_statistics(tmp_path / "bomb.npz"), "claims to unpack to 512.0 MiB", 2**27
    )


@pytest.mark.parametrize("name", ["units", "filters", "num_classes", "batch_shape"])
def test_load_generator_rejects_huge_layers_without_using_memory(run, tmp_path, name):
    def enlarged(value):
        if isinstance(value, dict):
            return {key: big if key == name else enlarged(inner) for key, inner in value.items()}
        return [enlarged(inner) for inner in value] if isinstance(value, list) else value

    big = [None, 1 << 30] if name == "batch_shape" else 1 << 28
    other = Run(tmp_path)
    rewrite_config(run.generator_path, other.generator_path, enlarged)
    assert_refused_in_little_memory(lambda: load_model(other), "cannot be loaded as a generator of sagan_tf")


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


@pytest.mark.parametrize("kind", ["cut", "nan", "folder", "newer"])
def test_commands_reject_damaged_run_in_one_line_and_write_nothing(run, tmp_path, command_error, kind):
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
        assert "invented_later" in command_error(report.main, broken.path, "--out", out)
        for path in broken.checkpoints_path.glob("ckpt-*.index"):
            path.unlink()  # otherwise `sample` does not need the config
    commands = (attend, export) if kind == "newer" else (sample, attend, export)
    for command in commands:
        command_error(command.main, broken.path, "--out", out)
        assert not out.exists()


@pytest.mark.parametrize("size", [None, 13])
def test_load_generator_is_the_same_when_a_layer_says_another_shape(run, tmp_path, size):
    def change(config):
        (dense,) = (layer for layer in config["config"]["layers"] if layer["config"].get("name") == "dense")
        dense["build_config"]["input_shape"][1] = size
        return config

    other = Run(tmp_path / "other")
    other.path.mkdir()
    rewrite_config(run.generator_path, other.generator_path, change)
    folded = [fold_generator(load_model(each)) for each in (run, other)]
    for weight, same in zip(*(each.model.weights for each in folded), strict=True):
        np.testing.assert_array_equal(weight, same)
