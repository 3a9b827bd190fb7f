"""The notebooks of docs/tutorials run from top to bottom, and can be read without running."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIALS = Path(__file__).resolve().parents[1] / "docs" / "tutorials"
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))
# Paths of one machine, and start-up lines of TensorFlow.
MACHINE = re.compile(r"/(home|root|tmp|work|Users|usr|opt|var)/|[IWE]0000 |absl::|oneDNN|0x[0-9a-f]{6}")

each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def cells(notebook, kind):
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == kind]


@pytest.mark.documentation
@each_notebook
def test_tutorial_runs_from_top_to_bottom(notebook):
    command = [sys.executable, TUTORIALS / "run.py", notebook, "--short"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


@each_notebook
def test_tutorial_is_readable_without_running(notebook):
    assert notebook.stat().st_size < 2**19
    code = cells(notebook, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1)), "make tutorials"
    outputs = [output for cell in code for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    texts = ["".join(output.get("text", output.get("data", {}).get("text/plain", ""))) for output in outputs]
    assert [text for text in texts if MACHINE.search(text)] == []


@each_notebook
def test_tutorial_cells_are_short_and_links_exist(notebook):
    assert max(len(cell["source"]) for cell in cells(notebook, "code")) <= 20
    text = "\n".join("".join(cell["source"]) for cell in cells(notebook, "markdown"))
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert links and [link for link in links if not (notebook.parent / link).exists()] == []
