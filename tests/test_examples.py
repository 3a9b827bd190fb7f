"""Examples: doctests of docstrings, Python blocks of the pages, and the commands that pages and notebooks show."""

import doctest
import importlib
import inspect
import json
import re
import shlex
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_runs import make_run

import sagan_tf
from sagan_tf import cli
from sagan_tf.commands import options
from sagan_tf.commands.option_parser import parse_options
from sagan_tf.config import load_command_line
from sagan_tf.training import SAGAN

ROOT = Path(__file__).resolve().parents[1]
MODULES = [path for path in sorted((ROOT / "sagan_tf").rglob("*.py")) if re.search(r"^ +>>>", path.read_text(), re.M)]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "export").glob("*/README.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
PYTHON = {page: blocks for page in PAGES if (blocks := BLOCK.findall(page.read_text()))}


def commands(page):
    """Commands of ours in the code blocks of a page, as lists of words."""
    text = page.read_text()
    if page.suffix == ".ipynb":
        texts = [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
        text = "\n".join("".join(lines) for lines in texts)
    text = re.sub(r"\\\n\s*", "", text)
    lines = re.findall(r"^(?:    )?((?:sagan|python -m sagan_tf\.)[ \w].*)", text, re.M)
    words = [shlex.split(line.removesuffix("&"), comments=True) for line in lines]
    return [["sagan", line[2].partition(".")[2], *line[3:]] if line[0] == "python" else line for line in words]


COMMANDS = {page: lines for page in [*PAGES, *sorted((ROOT / "docs").rglob("*.ipynb"))] if (lines := commands(page))}


def relative(path):
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return sagan_tf.load_run(make_run(tmp_path_factory.mktemp("examples") / "quickstart").path)


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")  # Keras, at any `fit` of a data set
@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_docstring_examples_give_what_they_say(path):
    module = importlib.import_module(relative(path.with_suffix("")).replace("/", "."))
    tf.config.run_functions_eagerly(True)  # a traced step takes four times as long
    try:
        result = doctest.testmod(module)
    finally:
        tf.config.run_functions_eagerly(False)
    assert result.attempted > 0 and result.failed == 0


@pytest.mark.documentation
@pytest.mark.parametrize("page", PYTHON, ids=relative)
def test_page_python_runs(page, run, tmp_path, monkeypatch):
    """In order, with a small run for runs/quickstart; `fit` only checks its arguments."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sagan_tf, "load_run", {"runs/quickstart": run}.get)
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (8, 32, 32, 3), np.uint8), rng.integers(0, 10, (8, 1))
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: (data, data))
    monkeypatch.setattr(SAGAN, "fit", inspect.signature(keras.Model.fit).bind)
    variables = {}
    for block in PYTHON[page]:
        exec(compile(block, str(page), "exec"), variables)


@pytest.mark.parametrize("page", COMMANDS, ids=relative)
def test_page_commands_parse(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for _, name, *argv in COMMANDS[page]:
        if name == "train":
            parse(load_command_line, argv, "sagan train")
        elif name == "configs":
            assert argv == []
        elif name != "COMMAND":
            assert name in cli.COMMANDS
            parse(parse_options, getattr(options, f"{name.capitalize()}Options"), argv, f"sagan {name}")


def parse(function, *arguments):
    try:
        function(*arguments)
    except SystemExit as end:  # --help, --print_config
        assert not end.code
