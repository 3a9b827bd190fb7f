"""Models that anybody may have written or damaged: checkpoints, `.keras` files, checkpoints of others.

Always one line, or they work; no code of them runs, and reading takes no memory on their word.
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
from damage import damage, one_line_or_none, peak_growth, places, replaced, tries
from hypothesis import given
from hypothesis import strategies as st
from parity import recipe
from parity.goldens import golden
from small_runs import make_run

from sagan_tf import attend, convert, report, sample
from sagan_tf.conversion.files import read_state_dict
from sagan_tf.errors import UserError
from sagan_tf.experiment.build import build_networks
from sagan_tf.experiment.checkpoints import make_checkpoint, make_manager, restore_latest
from sagan_tf.experiment.loading import load_generator, restore_networks
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
    """A function that gives the true weights of a step; not they themselves, which a failing test would print."""
    found = {}
    for step in STEPS:
        make_checkpoint(gan).restore(str(run.checkpoints_path / f"ckpt-{step}")).assert_consumed()
        found[step] = state(gan)
    return lambda step: found[step]


@tries(12)
@given(changes=st.dictionaries(st.sampled_from([*CHECKPOINTS, "checkpoint"]), damage(), min_size=1, max_size=3))
def test_damaged_checkpoints_give_true_weights_or_none(run, gan, states, tmp_path_factory, changes):
    broken = copy_of(run, tmp_path_factory.mktemp("broken"))
    for name, change in changes.items():
        path = broken.checkpoints_path / name
        path.write_bytes(change(path.read_bytes()))
    before = {path.name: path.read_bytes() for path in broken.checkpoints_path.iterdir()}
    with one_line_or_none():
        restore_latest(gan, broken)
        step = int(gan.step.numpy())
        for found, expected in zip(state(gan), states(step), strict=True):
            np.testing.assert_array_equal(found, expected)
        assert step == 40 or any(name.startswith("ckpt-40.") for name in changes)
        make_manager(gan, broken, 2).save(checkpoint_number=step + 1)
        assert str(broken.checkpoints_path / f"ckpt-{step + 1}") in broken.checkpoints()
        return
    # Nothing was restored, and nothing taken away.
    assert {path.name: path.read_bytes() for path in broken.checkpoints_path.iterdir()} == before


def test_restarts_leave_no_old_checkpoints(run, gan, tmp_path):
    # Found by tests/stress/kill_and_resume.py: TensorFlow forgot the old ones, and 30 lay there after 37 kills.
    again = copy_of(run, tmp_path)
    restore_latest(gan, again)
    for step in (41, 42, 43):
        manager = make_manager(gan, again, 2)
        gan.step.assign(step)
        manager.save(checkpoint_number=step)
    assert [path.rpartition("-")[2] for path in again.checkpoints()] == ["43", "42"]


@tries(5)
@given(name=st.sampled_from(CHECKPOINTS[2:]), change=damage())
def test_damaged_checkpoints_are_not_looked_at(run, tmp_path_factory, name, change):
    broken = copy_of(run, tmp_path_factory.mktemp("broken"))
    path = broken.checkpoints_path / name
    path.write_bytes(change(path.read_bytes()))
    with one_line_or_none():
        assert restore_networks(broken, discriminator=True).step == 40


@pytest.mark.parametrize("name", CHECKPOINTS[2:])
@pytest.mark.parametrize("kind", ["folder", "circle", "foreign"])
def test_what_is_no_checkpoint_is_passed_over(run, gan, tmp_path, capsys, name, kind):
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


def rewritten(source, target, member, change):
    """Copies a `.keras` file, one of its members changed; all its checksums are right."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content) if name == member else content)


VALUES = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["relu", "valid", "float16", [], {}, [2, 2], [None], 2**30, "keras.layers", "Lambda"])
)  # fmt: skip


@tries(12)
@given(data=st.data())
def test_edited_generators_paint_or_are_refused(run, tmp_path_factory, data):
    other = Run(tmp_path_factory.mktemp("run"))

    def change(content):
        config = json.loads(content)
        place = data.draw(st.sampled_from(list(places(config))))
        return json.dumps(replaced(config, place, data.draw(VALUES))).encode()

    rewritten(run.generator_path, other.generator_path, "config.json", change)
    with one_line_or_none():
        sampler = Sampler(fold_generator(load_generator(other)), batch_size=2)
        labels = None if sampler.num_classes is None else [0]
        assert sampler.sample([0], labels).shape == (1, *sampler.image_shape)


def test_a_generator_that_leaves_a_size_open_is_refused(run, tmp_path):
    """It would paint, but cannot be folded; found by the test above."""

    def change(content):
        config = json.loads(content)
        (reshape,) = [layer for layer in config["config"]["layers"] if layer["class_name"] == "Reshape"]
        reshape["config"]["target_shape"][-1] = None
        return json.dumps(config).encode()

    other = Run(tmp_path)
    rewritten(run.generator_path, other.generator_path, "config.json", change)
    with pytest.raises(UserError, match="has an output of unknown size"):
        load_generator(other)


def small_keras_file(folder, config=None, weights=None):
    """A run with a generator file of a kilobyte, of any config and weights."""
    other = Run(folder)
    with zipfile.ZipFile(other.generator_path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("metadata.json", "{}")
        file.writestr("config.json", json.dumps(config or {}))
        if weights is not None:
            file.writestr("model.weights.h5", weights)
    return other


def test_generator_that_unpacks_to_much_takes_no_memory(tmp_path):
    other = small_keras_file(tmp_path, weights=bytes(400 << 20))
    assert other.generator_path.stat().st_size < 4 << 20

    def load():
        with pytest.raises(UserError, match="claims to unpack to 400.0 MiB"):
            load_generator(other)

    assert peak_growth(load) < untrusted.FLOOR_BYTES


def test_generator_with_arrays_that_claim_much_takes_no_memory(run, tmp_path):
    def change(content):
        file = io.BytesIO(content)
        with h5py.File(file, "a") as weights:
            # No chunk of it is there; reading would fill it all with zeros.
            weights.create_dataset("layers/more", (1 << 16, 1 << 14), "float32", chunks=(64, 64))
        return file.getvalue()

    other = Run(tmp_path)
    rewritten(run.generator_path, other.generator_path, "model.weights.h5", change)

    def load():
        with pytest.raises(UserError, match="claims to unpack to 4096"):
            load_generator(other)

    assert peak_growth(load) < untrusted.FLOOR_BYTES


@pytest.mark.parametrize("name", ["units", "filters", "num_classes", "batch_shape"])
def test_generator_whose_layers_claim_much_takes_no_memory(run, tmp_path, name):
    def enlarged(value):
        if isinstance(value, dict):
            return {key: big if key == name else enlarged(inner) for key, inner in value.items()}
        return [enlarged(inner) for inner in value] if isinstance(value, list) else value

    big = [None, 1 << 30] if name == "batch_shape" else 1 << 28
    other = Run(tmp_path)
    rewritten(
        run.generator_path, other.generator_path, "config.json", lambda text: json.dumps(enlarged(json.loads(text)))
    )

    def load():
        with pytest.raises(UserError, match="this is not a generator of sagan_tf"):
            load_generator(other)

    assert peak_growth(load) < untrusted.FLOOR_BYTES


@pytest.mark.parametrize(
    ("layer", "options"),
    [("StringLookup", {"vocabulary": "/etc/hostname"}), ("TFSMLayer", {"filepath": "/tmp"}), ("Lambda", {})],
)
def test_layers_that_reach_outside_are_refused_before_they_are_made(run, tmp_path, layer, options):
    def change(content):
        config = json.loads(content)
        config["config"]["layers"][2] |= {"module": "keras.layers", "class_name": layer, "config": options}
        return json.dumps(config).encode()

    other = Run(tmp_path)
    rewritten(run.generator_path, other.generator_path, "config.json", change)
    with pytest.raises(UserError, match=f"a generator has no keras.layers.{layer}"):
        load_generator(other)


def ends_with_one_line(capsys, command, *arguments):
    with pytest.raises(SystemExit) as stop:
        command.main([str(argument) for argument in arguments])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    return error


@pytest.mark.parametrize("kind", ["cut", "nan", "folder", "newer"])
def test_commands_end_with_one_line_and_write_nothing(run, tmp_path, capsys, kind):
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
            path.unlink()  # or `sample` needs no config
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
    """Converts the bytes of an `.npz` file; no run folder is there unless that is whole."""
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
def test_damaged_state_dicts(archive, tmp_path_factory, change):
    converted(change(archive), tmp_path_factory.mktemp("converted"))


ARRAYS = st.sampled_from(
    [np.zeros(0), np.zeros((2**40, 0)), np.float32(1), np.ones(3), np.ones((1, 1, 1, 1, 1)), np.array(["text"]),
     np.array([np.nan]), np.ones((2**12, 1, 1, 1), np.int8), np.zeros((4, 4), bool), np.ones((5, 5), complex)]
)  # fmt: skip


@tries(15)
@given(data=st.data(), kind=st.sampled_from(["other", "gone", "more", "turned"]))
def test_foreign_state_dicts(archive, tmp_path_factory, data, kind):
    with np.load(io.BytesIO(archive)) as file:
        arrays = dict(file)
    name = data.draw(st.sampled_from(sorted(arrays)))
    if kind == "gone":
        del arrays[name]
    elif kind == "turned":
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
def test_state_dicts_that_claim_much_take_no_memory(tmp_path, shape):
    path = tmp_path / "state.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("blocks.0.0.conv2d1.weight.npy", npy(shape))

    def read():
        with pytest.raises(UserError, match="cannot be read as a checkpoint"):
            read_state_dict(path)

    assert peak_growth(read) < untrusted.FLOOR_BYTES


def test_state_dicts_that_unpack_to_much_take_no_memory(tmp_path):
    path = tmp_path / "state.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("weight.npy", npy((100 << 20,), bytes(400 << 20)))

    def read():
        with pytest.raises(UserError, match="claims to unpack to 400.0 MiB"):
            read_state_dict(path)

    assert peak_growth(read) < untrusted.FLOOR_BYTES


class Trap:
    """An object whose pickle makes a file when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_in_a_state_dict_is_not_run(tmp_path, capsys):
    trap = tmp_path / "ran"
    np.savez(tmp_path / "state.npz", weight=np.array([Trap(trap)], object))
    (tmp_path / "state.pth").write_bytes(pickle.dumps({"weight": Trap(trap)}))
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as file:  # as torch.save writes it
        file.writestr("archive/data.pkl", pickle.dumps({"weight": Trap(trap)}))
        file.writestr("archive/version", "3\n")
    for name in ("state.npz", "state.pth", "zip.pth"):
        # Without PyTorch the line says that it is needed.
        line = ends_with_one_line(capsys, convert, tmp_path / name, "--out", tmp_path / "run")
        assert "cannot be read as a checkpoint" in line or "needs PyTorch" in line
    assert not trap.exists() and not Path(tmp_path / "run").exists()


def test_layer_that_says_it_was_built_for_another_shape_is_refused(run, tmp_path):
    def change(content):
        config = json.loads(content)
        (dense,) = (one for one in config["config"]["layers"] if one["config"].get("name") == "dense")
        dense["build_config"]["input_shape"][1] = None
        return json.dumps(config).encode()

    other = Run(tmp_path / "other")
    other.path.mkdir()
    rewritten(run.generator_path, other.generator_path, "config.json", change)
    with pytest.raises(UserError):
        load_generator(other)
