"""Hostile or damaged state dicts of other projects: each converts or is rejected in one line, and runs no code."""

import contextlib
import io
import json
import os
import pickle
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
from damage import assert_refused_in_little_memory, damage, one_line_or_none, tries
from hypothesis import given
from hypothesis import strategies as st
from parity import recipe
from parity.goldens import golden

from sagan_tf import convert
from sagan_tf.conversion.files import read_state_dict
from sagan_tf.runs.folder import Run


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Path of a state dict of PyTorch-StudioGAN's generator, an `.npz` file."""
    shapes = json.loads(str(golden("torch_studiogan")["generator_shapes"]))
    path = tmp_path_factory.mktemp("state") / "generator.npz"
    np.savez(path, **recipe.torch_values(shapes))
    return path


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


@tries(8)
@given(change=damage())
def test_convert_accepts_or_rejects_damaged_state_dict(archive, tmp_path_factory, change):
    converted(change(archive.read_bytes()), tmp_path_factory.mktemp("converted"))


ARRAYS = (
    np.zeros(0), np.zeros((2**40, 0)), np.float32(1), np.ones(3), np.ones((1, 1, 1, 1, 1)), np.array(["text"]),
    np.array([np.nan]), np.ones((2**12, 1, 1, 1), np.int8), np.zeros((4, 4), bool), np.ones((5, 5), complex),
)  # fmt: skip

EDITS = st.fixed_dictionaries({
    "kind": st.sampled_from(["other", "removed", "added", "transposed"]),
    "position": st.floats(0, 1), "name": st.text(max_size=8), "array": st.integers(0, len(ARRAYS) - 1),
})  # fmt: skip


@tries(8)
@given(edit=EDITS)
def test_convert_accepts_or_rejects_edited_state_dict(archive, tmp_path_factory, edit):
    with np.load(archive) as file:
        arrays = dict(file)
    old = sorted(arrays)[int(edit["position"] * (len(arrays) - 1))]
    if edit["kind"] == "removed":
        del arrays[old]
    elif edit["kind"] == "transposed":
        arrays[old] = arrays[old].T
    else:
        arrays[old if edit["kind"] == "other" else edit["name"].replace("/", "")] = ARRAYS[edit["array"]]
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
    assert_refused_in_little_memory(lambda: read_state_dict(path), "cannot be read as a checkpoint")


def test_read_state_dict_rejects_zip_bomb_without_using_memory(tmp_path):
    path = tmp_path / "state.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("weight.npy", npy((100 << 20,), bytes(400 << 20)))
    assert_refused_in_little_memory(lambda: read_state_dict(path), "claims to unpack to 400.0 MiB")


def test_read_state_dict_rejects_repeated_numbers_without_using_memory(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"weight": torch.zeros(1).expand(1 << 32)}, tmp_path / "state.pth")
    assert_refused_in_little_memory(lambda: read_state_dict(tmp_path / "state.pth"), "claims to unpack to 16.0 GiB")


def test_read_state_dict_survives_a_dict_that_holds_itself(tmp_path, monkeypatch):
    tensor = type("Tensor", (), {"numel": lambda _: 2, "float": lambda _: _, "numpy": lambda _: np.ones(2)})
    state = {"weight": tensor(), 0: tensor()}
    state["model"] = state
    torch = types.SimpleNamespace(
        Tensor=tensor,
        load=lambda *_, **__: state,
        serialization=types.SimpleNamespace(safe_globals=lambda _: contextlib.nullcontext()),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    (tmp_path / "state.pth").touch()
    assert list(read_state_dict(tmp_path / "state.pth")) == ["weight"]


class Trap:
    """An object whose pickle creates a folder when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_read_state_dict_runs_no_code(tmp_path, command_error):
    trap = tmp_path / "ran"
    np.savez(tmp_path / "state.npz", weight=np.array([Trap(trap)], object))
    (tmp_path / "state.pth").write_bytes(pickle.dumps({"weight": Trap(trap)}))
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as file:  # as torch.save writes it
        file.writestr("archive/data.pkl", pickle.dumps({"weight": Trap(trap)}))
        file.writestr("archive/version", "3\n")
    for name in ("state.npz", "state.pth", "zip.pth"):
        # Without PyTorch the error says that it is needed.
        line = command_error(convert.main, tmp_path / name, "--out", tmp_path / "run")
        assert "cannot be read as a checkpoint" in line or "needs PyTorch" in line
    assert not trap.exists() and not Path(tmp_path / "run").exists()
