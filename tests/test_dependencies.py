"""setup.cfg, docs/dependencies.md and what is vendored agree."""

import configparser
import hashlib
import re
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
UPLOT = ROOT / "sagan_tf" / "viewing" / "pages" / "uplot"
# Of the files in the npm package uplot 1.6.32.
PUBLISHED = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}


def requirements():
    """Requirements of setup.cfg: name -> lower bound."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    text = "\n".join([parser["options"]["install_requires"], *parser["options.extras_require"].values()])
    found = re.findall(r"^([A-Za-z][\w-]*)(?:\[[\w-]+\])?>=([\d.]+)", text, re.MULTILINE)
    return dict(found)


def test_dependencies_are_all_explained():
    page = (ROOT / "docs" / "dependencies.md").read_text()
    assert len(requirements()) > 25
    assert [name for name in requirements() if not re.search(rf"\b{name}\b", page)] == []


def test_dependencies_have_lower_bounds_that_this_environment_meets():
    def numbers(text):
        return [int(part) for part in re.findall(r"\d+", text)]

    for name, bound in requirements().items():
        if name in ("matplotlib", "nvidia-cudnn-cu12"):
            continue  # not part of the test environment
        assert numbers(version(name)) >= numbers(bound), name


@pytest.mark.parametrize("name", PUBLISHED)
def test_vendored_file_is_the_published_one(name):
    assert hashlib.sha256((UPLOT / name).read_bytes()).hexdigest() == PUBLISHED[name]
    assert "1.6.32" in (ROOT / "docs" / "dependencies.md").read_text()
