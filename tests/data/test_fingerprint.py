"""The fingerprint of a data set changes with its contents."""

import dataclasses
import os

import numpy as np
import pytest
from PIL import Image
from small_data import open_small

from sagan_tf.data.fingerprint import fingerprint


@pytest.mark.parametrize("memory_limit_gib", [1.0, 0.0])
def test_fingerprint_changes_with_pictures_and_labels(class_folders, memory_limit_gib):
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
