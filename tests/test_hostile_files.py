"""Damaged, foreign and hostile files: they work or raise a one-line error, never another exception."""

import contextlib
import io
import json
import os
import re
import shutil
import struct
import tracemalloc
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
from damage import damage, one_line_or_none, peak_growth, places, replaced, rewrite_config, tries
from export.generators import make_generator
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_data import open_small
from toy_networks import toy_generator

from sagan_tf.config import QUICK_START, save_config
from sagan_tf.data import checked_files
from sagan_tf.data.fingerprint import fingerprint_differences
from sagan_tf.data.options import DataOptions
from sagan_tf.data.preparing import prepare
from sagan_tf.data.sources import contact_sheet_images
from sagan_tf.errors import UserError
from sagan_tf.experiment.loading import load_model
from sagan_tf.files.atomic import atomic_write
from sagan_tf.runs.folder import Run
from sagan_tf.runs.provenance import describe_training
from sagan_tf.runs.report import write_report


def encode_image(kind):
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


SUFFIXES = {"PNG": "png", "JPEG": "jpeg", "GIF": "gif", "BMP": "bmp", "WEBP": "webp", "TIFF": "tiff", "PPM": "ppm"}
Image.init()
SUFFIXES |= {kind: suffix for kind, suffix in (("AVIF", "avif"), ("JPEG2000", "jp2")) if kind in Image.SAVE}
PICTURES = {kind: encode_image(kind) for kind in SUFFIXES}


def read_folder(folder, corrupt="stop"):
    """Opens a folder of images and reads all of them, as training does."""
    source = open_small(folder, corrupt=corrupt)
    contact_sheet_images(source, 2, 2)
    batches = source.reader.batches(source.num_images, 0, 0)
    return next(iter(batches.as_numpy_iterator()))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
@tries(30)
@given(kind=st.sampled_from(sorted(PICTURES)), change=damage(), corrupt=st.sampled_from(["stop", "skip"]))
def test_open_source_survives_damaged_images(tmp_path_factory, kind, change, corrupt):
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "good.png").write_bytes(PICTURES["PNG"])
    (folder / f"other.{SUFFIXES[kind]}").write_bytes(change(PICTURES[kind]))
    with one_line_or_none():
        assert read_folder(folder, corrupt)[0].shape[1:] == (32, 32, 3)


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def make_png(width, height, rows):
    """Returns a PNG file of `rows` black rows that claims a size of width x height."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + 3 * width) * rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(60_000, 60_000), (8_193, 8_192), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (0, 5)])
def test_open_source_uses_no_memory_for_image_of_huge_claimed_size(tmp_path, size):
    (tmp_path / "good.png").write_bytes(PICTURES["PNG"])
    (tmp_path / "bomb.png").write_bytes(make_png(*size, rows=1 if size[0] < 100_000 else 0))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="bomb.png"):
            read_folder(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()
    assert read_folder(tmp_path, "skip")[0].shape[0] == 1


def test_open_source_survives_circular_and_dangling_links(tmp_path):
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "one.png").write_bytes(PICTURES["PNG"])
    os.symlink(tmp_path, tmp_path / "cats" / "again")
    os.symlink(tmp_path / "nowhere.png", tmp_path / "cats" / "gone.png")
    os.symlink("itself.png", tmp_path / "cats" / "itself.png")
    os.symlink("dogs", tmp_path / "dogs")
    with one_line_or_none():
        assert read_folder(tmp_path, "skip")[0].shape[0] == 1


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40)


@tries(15)
@given(names=st.lists(names.filter(lambda name: name.strip(". ")), min_size=1, max_size=4, unique=True))
def test_open_source_accepts_names_in_any_script(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("pictures")
    for name in names:
        (folder / f"a{name}"[:60]).mkdir(exist_ok=True)
        (folder / f"a{name}"[:60] / f"{name}.png").write_bytes(PICTURES["PNG"])
    with one_line_or_none():
        image, *label = read_folder(folder)  # No label if only one class has visible images.
        assert image.shape[1:] == (32, 32, 3) and all(len(part) == len(image) for part in label)


def test_open_source_rejects_names_that_are_not_utf8(tmp_path):
    try:
        os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    except OSError:
        pytest.skip("the file system accepts no such names")
    for folder in (b"/\xff", b"/cats"):
        os.makedirs(os.fsencode(tmp_path) + folder, exist_ok=True)
        with open(os.fsencode(tmp_path) + folder + b"/\xfe.png", "wb") as file:
            file.write(PICTURES["PNG"])
    with pytest.raises(UserError, match="is not valid UTF-8"):
        read_folder(tmp_path)


def test_paths_that_are_not_utf_8_are_refused(tmp_path, monkeypatch):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    try:
        os.makedirs(f"{folder}/cats")
    except OSError:
        pytest.skip("the file system accepts no such names")
    with open(f"{folder}/cats/a.png", "wb") as file:
        file.write(PICTURES["PNG"])
    with pytest.raises(UserError, match=r"data.name: the name b'.*\\xff' is not valid UTF-8. Rename it."):
        read_folder(folder)
    monkeypatch.chdir(folder)
    for name in (folder, "cats"):  # the second is written with its whole path
        with pytest.raises(UserError, match="is not valid UTF-8"):
            prepare(DataOptions(name=name, image_size=32), tmp_path / "out", "raw", None, show_progress=False)
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv("SAGAN_TF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(checked_files, "MIN_FILES", 1)
    assert open_small("cats", memory_limit_gib=0.0).num_images == 1


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("run") / "run")
    run.checkpoints_path.mkdir(parents=True)
    run.class_names_path.parent.mkdir()
    save_config(QUICK_START, run.config_path)
    run.metrics_log.append({"step": 1, "d_loss": 2.0})
    run.metrics_log.append({"step": 2, "d_loss": 1.0})
    run.environment_path.write_text(json.dumps([{"cpu": "one"}]))
    run.save_class_names(["a", "b", "c", "d", "e"])
    run.save_fingerprint(FINGERPRINT)
    run.add_recovery("divergence", 2, 0.5)
    run.metrics_log.save_unfinished({"step": 3, "steps": 1, "means": {"d_loss": 0.5}})
    make_generator(builder=toy_generator, channels=8).save(run.generator_path)
    return run


FINGERPRINT = {
    "name": "x",
    "split": "train",
    "num_images": 3,
    "class_names": ["a", "b"],
    "class_counts": [1, 2],
    "hashes": ["0", "1"],
}
TEXTS = (
    "config.yaml", "metrics.jsonl", "environment.json", "data/class_names.json", "data/fingerprint.json",
    "recoveries.json", "unfinished_line.json",
)  # fmt: skip


@tries(15)
@given(file=st.sampled_from(TEXTS), change=damage())
def test_run_folder_readers_survive_damaged_files(run_folder, file, change):
    path = run_folder.path / file
    before = path.read_bytes()
    path.write_bytes(change(before))
    try:
        read_all(run_folder)
    finally:
        path.write_bytes(before)


def read_all(run):
    """Reads a run folder as training, export and report do."""
    for read in (
        lambda: describe_training(run),
        run.recoveries,
        run.class_names,
        run.starts,
        lambda: fingerprint_differences(run.fingerprint() or FINGERPRINT, FINGERPRINT),
        run.metrics_log.read_unfinished,
        lambda: run.metrics_log.truncate_after(10),
        lambda: write_report([run], run.report_path),
    ):
        with one_line_or_none():
            read()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@tries(15)
@given(file=st.sampled_from(TEXTS[1:]), data=st.data())
def test_run_folder_readers_survive_other_values(run_folder, file, data):
    path = run_folder.path / file
    before = path.read_bytes()
    value = [json.loads(line) for line in before.splitlines()] if file == "metrics.jsonl" else json.loads(before)
    value = replaced(value, data.draw(st.sampled_from(list(places(value)))), data.draw(VALUES))
    lines = value if file == "metrics.jsonl" and isinstance(value, list) else [value]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    try:
        read_all(run_folder)
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("file", TEXTS)
@pytest.mark.parametrize("kind", ["nested", "folder", "circle"])
def test_run_folder_readers_survive_nested_values_folders_and_links(run_folder, file, kind):
    path = run_folder.path / file
    before = path.read_bytes()
    path.unlink()
    try:
        if kind == "nested":
            path.write_text("[" * 100_000 + "\n")
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(path)
        read_all(run_folder)
    finally:
        path.rmdir() if kind == "folder" else path.unlink()
        path.write_bytes(before)


OTHERS = ("generator.keras", "evaluation/step_00000004.json", "samples/step_00000004.png", "checkpoints/ckpt-1.index")


@pytest.mark.parametrize("file", [*TEXTS[1:], *OTHERS])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_run_folder_refuses_pipes_and_devices(run_folder, tmp_path, file, kind):
    run = Run(shutil.copytree(run_folder.path, tmp_path / "run"))
    path = run.path / file
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match=f"{re.escape(str(path))}: is a pipe, a socket or a device"):
        Run.open(run.path)
    with pytest.raises(UserError, match="is a pipe, a socket or a device"):
        Run.create_or_resume(run.path, QUICK_START)


def test_run_folder_refuses_metrics_of_huge_size(run_folder, tmp_path):
    run = Run(shutil.copytree(run_folder.path, tmp_path / "run"))
    os.truncate(run.metrics_path, 1 << 34)  # a sparse file
    with pytest.raises(UserError, match="metrics.jsonl, line 3: not a line of metrics"):
        run.read_metrics()


def test_metrics_log_does_not_follow_links(run_folder, tmp_path):
    (tmp_path / "foreign").write_text("theirs")
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "foreign")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        Run(tmp_path).metrics_log.append({"step": 1})
    assert (tmp_path / "foreign").read_text() == "theirs"


def test_run_remove_unfinished_does_not_follow_links(tmp_path):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "part").touch()
    run = Run(tmp_path / "run")
    run.checkpoints_path.mkdir(parents=True)
    (run.checkpoints_path / "ckpt-4_temp").symlink_to(tmp_path / "foreign")
    run.remove_unfinished()
    assert (tmp_path / "foreign" / "part").exists() and not list(run.checkpoints_path.iterdir())


@pytest.mark.parametrize("folder", [".", "samples", "attention", "data"])
def test_run_remove_unfinished_removes_incomplete_files(tmp_path, folder):
    run, path = Run(tmp_path), tmp_path / folder / "step_1.png"
    path.parent.mkdir(exist_ok=True)
    with contextlib.suppress(KeyboardInterrupt), atomic_write(path) as temporary_path:
        temporary_path.touch()
        (left,) = path.parent.glob(".*.partial")
        kept = left.rename(tmp_path / "elsewhere")
        raise KeyboardInterrupt
    kept.rename(left)  # as a killed process leaves it
    run.remove_unfinished()
    assert not list(path.parent.glob(".*.partial"))


@pytest.mark.parametrize("size", [(60_000, 60_000), (10_000, 10_000), (2**31 - 1, 1)])
def test_report_omits_images_with_huge_claimed_size(run_folder, size):
    path = run_folder.sample_path(2)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(make_png(*size, rows=1 if size[0] < 100_000 else 0))
    assert peak_growth(lambda: write_report([run_folder], run_folder.report_path)) < 2**28
    assert run_folder.report_path.read_text().count("data:image/webp") == 0
    path.unlink()


@pytest.mark.parametrize("letter", ["*", "?", "[", "\\"])
def test_run_folder_rejects_names_with_glob_characters(tmp_path, letter):
    with pytest.raises(UserError, match="must not contain"):
        Run.create_or_resume(tmp_path / f"run{letter}a]", QUICK_START)
    assert not list(tmp_path.iterdir())


@tries(20)
@given(change=damage())
def test_load_generator_gives_true_weights_or_one_line_for_damaged_files(run_folder, tmp_path_factory, change):
    run = Run(tmp_path_factory.mktemp("run"))
    run.generator_path.write_bytes(change(run_folder.generator_path.read_bytes()))
    with one_line_or_none():
        for weight, true in zip(load_model(run).get_weights(), load_model(run_folder).get_weights(), strict=True):
            np.testing.assert_array_equal(weight, true)


def test_load_generator_does_not_run_code(tmp_path):
    ran = str(tmp_path / "ran")
    inputs = keras.Input((3,))
    outputs = keras.layers.Lambda(lambda x: (open(ran, "w").close(), x)[1], output_shape=(3,))(inputs)
    model, run = keras.Model(inputs, outputs), Run(tmp_path)
    model.save(run.generator_path)
    Path(ran).unlink(missing_ok=True)
    with pytest.raises(UserError, match="cannot be loaded as a generator of sagan_tf"):
        load_model(run)
    assert not os.path.exists(ran)


@pytest.mark.parametrize("module, name", [("os", "system"), ("builtins", "eval"), ("subprocess", "Popen")])
def test_load_generator_does_not_call_named_functions(run_folder, tmp_path, module, name):
    def change(config):
        layers = config["config"]["layers"]
        layers[1] = {**layers[1], "module": module, "class_name": name, "config": {"args": "touch ran"}}
        return config

    run = Run(tmp_path)
    rewrite_config(run_folder.generator_path, run.generator_path, change)
    with pytest.raises(UserError, match="cannot be loaded as a generator of sagan_tf"):
        load_model(run)
