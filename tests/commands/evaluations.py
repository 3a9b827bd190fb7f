"""Calls of `sagan evaluate`, and what they leave."""

import json

import pytest
from PIL import Image

from sagan_tf import evaluate


def measured(*arguments, main=None):
    (main or evaluate.main)([str(argument) for argument in arguments])


def read(folder):
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text(encoding="utf-8"))


def refusal(capsys, *arguments, main=None):
    """The error of `sagan evaluate`, or of the command `main`."""
    with pytest.raises(SystemExit) as caught:
        measured(*arguments, main=main)
    lines = capsys.readouterr().err.splitlines()
    err = [line for line in lines if line.strip() and not any(unit in line for unit in ("img/s", "block/s", "file/s"))]
    assert caught.value.code == 2 and len(err) == 1 and err[0].startswith("error: ")
    return err[0].removeprefix("error: ")


def save_pictures(folder, images):
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:04d}.png")
