"""Damaged, foreign and hostile files: always one clear line, or they work; never another exception."""

import io
import json
import os
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
from export.generators import make_generator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sagan_tf.config import QUICK_START, save_config
from sagan_tf.data.sources import contact_sheet_images, open_source
from sagan_tf.errors import UserError
from sagan_tf.export.provenance import describe_training, load_generator
from sagan_tf.runs import Run

FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def damage(draw):
    """A function of bytes that flips, cuts, drops, repeats or overwrites some."""
    kind = draw(st.sampled_from(["flip", "cut", "drop", "repeat", "overwrite", "replace"]))
    where, length = draw(st.floats(0, 1)), draw(st.integers(1, 64))
    noise = draw(st.binary(min_size=1, max_size=64))

    def apply(content):
        at = int(where * (len(content) - 1))
        before, piece, after = content[:at], content[at : at + length], content[at + length :]
        return {
            "flip": before + bytes(byte ^ 255 for byte in piece) + after,
            "cut": before,
            "drop": before + after,
            "repeat": before + piece + piece + after,
            "overwrite": before + noise + content[at + len(noise) :],
            "replace": noise,
        }[kind]

    return apply


def encoded(kind):
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


PICTURES = {kind: encoded(kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP")}


def read_folder(folder, corrupt="stop"):
    """Opens a folder of pictures and reads them all, as training would."""
    source = open_source(str(folder), "train", image_size=32, corrupt=corrupt)
    contact_sheet_images(source, 2, 2)
    batches = source.reader.batches(source.num_images, 0, 0)
    return next(iter(batches.as_numpy_iterator()))


@settings(FUZZ, max_examples=60)
@given(kind=st.sampled_from(sorted(PICTURES)), change=damage(), corrupt=st.sampled_from(["stop", "skip"]))
def test_damaged_pictures(tmp_path_factory, kind, change, corrupt):
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "good.png").write_bytes(PICTURES["PNG"])
    (folder / f"other.{kind.lower()}").write_bytes(change(PICTURES[kind]))
    try:
        image = read_folder(folder, corrupt)[0]
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert image.shape[1:] == (32, 32, 3)


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of(width, height, rows):
    """A PNG file that says it is that large, of `rows` black rows."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + 3 * width) * rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (0, 5)])
def test_pictures_that_claim_a_monstrous_size_take_no_memory(tmp_path, size):
    (tmp_path / "good.png").write_bytes(PICTURES["PNG"])
    (tmp_path / "bomb.png").write_bytes(png_of(*size, rows=1 if size[0] < 100_000 else 0))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="bomb.png"):
            read_folder(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()
    assert read_folder(tmp_path, "skip")[0].shape[0] == 1


def test_links_in_a_circle_and_to_nowhere_end(tmp_path):
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "one.png").write_bytes(PICTURES["PNG"])
    os.symlink(tmp_path, tmp_path / "cats" / "again")
    os.symlink(tmp_path / "nowhere.png", tmp_path / "cats" / "gone.png")
    try:
        assert read_folder(tmp_path, "skip")[0].shape[0] == 1
    except UserError as error:
        assert "\n" not in str(error)


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40)


@settings(FUZZ, max_examples=30)
@given(names=st.lists(names.filter(lambda name: name.strip(". ")), min_size=1, max_size=4, unique=True))
def test_names_in_any_script(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("pictures")
    for name in names:
        (folder / f"a{name}"[:60]).mkdir(exist_ok=True)
        (folder / f"a{name}"[:60] / f"{name}.png").write_bytes(PICTURES["PNG"])
    try:
        image, *label = read_folder(folder)  # no label where one class alone has pictures that are not hidden
        assert image.shape[1:] == (32, 32, 3) and all(len(one) == len(image) for one in label)
    except UserError as error:
        assert "\n" not in str(error)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("run") / "run")
    run.checkpoints_path.mkdir(parents=True)
    run.class_names_path.parent.mkdir()
    save_config(QUICK_START, run.config_path)
    run.append_metrics({"step": 1, "d_loss": 2.0})
    run.append_metrics({"step": 2, "d_loss": 1.0})
    run.environment_path.write_text(json.dumps([{"cpu": "one"}]))
    run.save_class_names(["a", "b", "c", "d", "e"])
    run.add_recovery("divergence", 2, 0.5)
    make_generator().save(run.generator_path)
    return run


TEXTS = ("config.yaml", "metrics.jsonl", "environment.json", "data/class_names.json", "recoveries.json")


@settings(FUZZ, max_examples=60)
@given(file=st.sampled_from(TEXTS), change=damage())
def test_edited_run_folders(run_folder, file, change):
    path = run_folder.path / file
    before = path.read_bytes()
    path.write_bytes(change(before))
    try:
        describe_training(run_folder, run_folder.config())
        run_folder.recoveries()
        run_folder.truncate_metrics_after(10)
    except UserError as error:
        assert "\n" not in str(error)
    finally:
        path.write_bytes(before)


@settings(FUZZ, max_examples=40)
@given(change=damage())
def test_damaged_generators(run_folder, tmp_path_factory, change):
    run = Run(tmp_path_factory.mktemp("run"))
    run.generator_path.write_bytes(change(run_folder.generator_path.read_bytes()))
    try:
        load_generator(run)
    except UserError as error:
        assert "\n" not in str(error)


def rewritten(source, target, change):
    """Copies a `.keras` file, its config changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                content = json.dumps(change(json.loads(content))).encode()
            new.writestr(name, content)


def test_code_in_a_generator_file_is_not_run(tmp_path):
    ran = str(tmp_path / "ran")
    inputs = keras.Input((3,))
    outputs = keras.layers.Lambda(lambda x: (open(ran, "w").close(), x)[1], output_shape=(3,))(inputs)
    model, run = keras.Model(inputs, outputs), Run(tmp_path)
    model.save(run.generator_path)
    Path(ran).unlink(missing_ok=True)
    with pytest.raises(UserError, match="no generator of this program can be read"):
        load_generator(run)
    assert not os.path.exists(ran)


@pytest.mark.parametrize("module, name", [("os", "system"), ("builtins", "eval"), ("subprocess", "Popen")])
def test_functions_named_in_a_generator_file_are_not_called(run_folder, tmp_path, module, name):
    def change(config):
        layers = config["config"]["layers"]
        layers[1] = {**layers[1], "module": module, "class_name": name, "config": {"args": "touch ran"}}
        return config

    run = Run(tmp_path)
    rewritten(run_folder.generator_path, run.generator_path, change)
    with pytest.raises(UserError, match="no generator of this program can be read"):
        load_generator(run)
