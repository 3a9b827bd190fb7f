"""The fingerprints of a data set change with its contents; the portable one is that of a copy, too."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from small_data import open_small

from sagan_tf.data import embedded
from sagan_tf.data import tfds_builders as tfds_builders
from sagan_tf.data.fingerprint import fingerprint, fingerprint_differences, portable_fingerprint


@pytest.mark.parametrize("memory_limit_gib", [1.0, 0.0])
def test_fingerprint_changes_with_images_and_labels(class_folders, memory_limit_gib):
    options = {"memory_limit_gib": memory_limit_gib}
    before = fingerprint(open_small(class_folders, **options))
    assert before == fingerprint(open_small(class_folders, **options)) and len(before) == 64
    assert before != fingerprint(open_small(class_folders, conditional=False, **options))
    path = class_folders / "a" / "0.png"
    with Image.open(path) as file:
        pixels = np.asarray(file).copy()
    pixels[0, 0] = 255 - pixels[0, 0]
    Image.fromarray(pixels).save(path)
    assert before != fingerprint(open_small(class_folders, **options))


def test_fingerprint_in_memory_depends_only_on_contents(class_folders, tmp_path):
    before = fingerprint(open_small(class_folders))
    os.rename(class_folders, tmp_path / "elsewhere")
    source = open_small(tmp_path / "elsewhere")
    assert fingerprint(source) == before
    reversed_labels = dataclasses.replace(source.reader, labels=source.reader.labels[::-1].copy())
    assert fingerprint(dataclasses.replace(source, reader=reversed_labels)) != before


def differences(folder, change, **options):
    """Differences between the data in a folder before and after a change."""
    before = portable_fingerprint(open_small(folder, **options))
    change()
    return fingerprint_differences(before, portable_fingerprint(open_small(folder, **options)))


@pytest.mark.parametrize("options", [{}, {"memory_limit_gib": 0.0}, {"conditional": False}])
def test_portable_fingerprint_is_that_of_a_copy(class_folders, tmp_path, options):
    shutil.copytree(class_folders, tmp_path / "copy", copy_function=shutil.copyfile)  # other times
    data = [open_small(folder, **options) for folder in (class_folders, tmp_path / "copy")]
    first, second = map(portable_fingerprint, data)
    assert fingerprint_differences(first, second) is None and {**first, "name": second["name"]} == second


def test_fingerprint_differences_name_the_classes(class_folders):
    a, b, c = (class_folders / name for name in "abc")
    assert differences(class_folders, lambda: a.rename(c)) == "class `a` -> `c`"
    assert differences(class_folders, lambda: shutil.copytree(c, a)) == "class `a` is new"
    assert differences(class_folders, lambda: shutil.rmtree(b)) == "class `b` is gone"
    assert differences(class_folders, lambda: shutil.rmtree(c)) == "2 classes -> no classes"


@pytest.mark.parametrize("options", [{}, {"memory_limit_gib": 0.0}])
def test_fingerprint_differences_name_the_images(class_folders, options):
    file = class_folders / "b" / "3.png"
    content = file.read_bytes()
    moved = class_folders / "b" / "9.png"
    assert differences(class_folders, lambda: file.rename(moved), **options) == "images of class `b`: other files"
    assert differences(class_folders, lambda: moved.unlink(), **options) == "images of class `b`: 5 -> 4"
    assert differences(class_folders, lambda: file.write_bytes(content), conditional=False) == "images: 9 -> 10"


def test_portable_fingerprint_changes_with_contents_of_equal_size(tmp_path):
    path = tmp_path / "a.bmp"
    Image.new("RGB", (32, 32)).save(path)
    recolor = Image.new("RGB", (32, 32), "red").save
    assert differences(tmp_path, lambda: recolor(path)) == "images: other files"


def test_fingerprint_differences_see_the_order_of_classes():
    old, new = ({"class_names": list(names), "hashes": ["0"]} for names in ("abc", "acb"))
    assert fingerprint_differences(old, new) == "the classes are in another order"


def test_fingerprint_differences_list_three_and_count_the_rest():
    old, new = ({"class_names": list(names), "hashes": ["0"]} for names in ("abcde", "ae"))
    new["class_names"] += ["f"]
    lines = "class `b` is gone; class `c` is gone; class `d` is gone; and 1 more"
    assert fingerprint_differences(old, new, classes_only=True) == lines


@pytest.mark.slow
@pytest.mark.parametrize("prepared", [False, True])
def test_portable_fingerprint_of_named_data_is_stable(tmp_path, monkeypatch, prepared):
    monkeypatch.setattr(embedded, "SPLITS", {"train": 60, "test": 20})
    options = {}
    if prepared:
        tfds.load("twins/32px", data_dir=tmp_path)
        options = {"data_dir": str(tmp_path)}
    name = "twins/32px" if prepared else "twins"
    train, again, test = (open_small(name, split=split, **options) for split in ("train", "train", "test"))
    train, again, test = map(portable_fingerprint, (train, again, test))
    assert train == again and train["hashes"] != test["hashes"] and train["class_names"] == list(embedded.KINDS)
    assert fingerprint_differences(train, test, classes_only=True) is None
