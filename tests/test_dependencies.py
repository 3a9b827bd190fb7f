"""setup.cfg, docs/dependencies.md and what is vendored agree."""

import configparser
import hashlib
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
UPLOT = ROOT / "sagan_tf" / "viewing" / "pages" / "uplot"
# Of the files in the npm package uplot 1.6.32.
PUBLISHED = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}


# Their next versions may break training, saved files or servers.
BOUNDED_ABOVE = {"tensorflow", "keras", "tensorflow-datasets", "jsonargparse", "aiohttp", "tensorflow-serving-api"}


def requirements():
    """Requirements of setup.cfg: list of packaging's `Requirement`."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    lines = "\n".join([parser["options"]["install_requires"], *parser["options.extras_require"].values()]).splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return [requirement for requirement in found if requirement.name != "sagan-tf"]


def test_dependencies_are_all_explained():
    page = (ROOT / "docs" / "dependencies.md").read_text()
    assert len(requirements()) > 25
    assert [one.name for one in requirements() if not re.search(rf"\b{one.name}\b", page)] == []


def test_dependencies_have_bounds_that_this_environment_meets():
    for one in requirements():
        kinds = {bound.operator for bound in one.specifier}
        assert ">=" in kinds and (one.name not in BOUNDED_ABOVE or "<" in kinds), one.name
        if one.name not in ("matplotlib", "nvidia-cudnn-cu12"):  # not part of the test environment
            assert version(one.name) in one.specifier, one.name


@pytest.mark.parametrize("name", PUBLISHED)
def test_vendored_file_is_the_published_one(name):
    assert hashlib.sha256((UPLOT / name).read_bytes()).hexdigest() == PUBLISHED[name]
    assert "1.6.32" in (ROOT / "docs" / "dependencies.md").read_text()
