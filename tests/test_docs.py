"""README and docs/: links, paths, modules and the tables of architecture.md agree with the tree; the site builds."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import sagan_tf

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "sagan_tf"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.slow
def test_site_builds_without_a_warning():
    """Also checks anchors, names of the reference, and that the navigation has every page."""
    done = subprocess.run([sys.executable, ROOT / "docs" / "site" / "build.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_links_and_paths_exist(page):
    text = page.read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    paths = re.findall(r"(?:benchmarks|configs|sagan_tf|tests)/[\w./]*\w", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_tests_exist(page):
    files = list((ROOT / "tests").rglob("test_*.py"))
    functions = re.findall(r"def (test_\w+)", "".join(file.read_text() for file in files))
    assert set(re.findall(r"[`/](test_\w+)", page.read_text())) - {*functions, *(file.stem for file in files)} == set()


def test_every_promise_of_the_security_page_names_a_test():
    rows = [line for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("| ")]
    heads = [i for i, row in enumerate(rows) if row.endswith("| test |")]
    assert len(heads) >= 2
    assert [row for i, row in enumerate(rows) if i not in heads and not re.search(r"`test_\w+` \|$", row)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_modules_exist(page):
    modules = set(re.findall(r"\bsagan_tf\.([a-z_]+)", page.read_text())) - set(dir(sagan_tf))
    assert [name for name in modules if not ((PACKAGE / f"{name}.py").exists() or (PACKAGE / name).is_dir())] == []


def test_architecture_files_exist():
    files = [file.removeprefix("sagan_tf/") for file in re.findall(r"`([\w/]+/\w+\.py)`", ARCHITECTURE)]
    assert [file for file in files if not (PACKAGE / file).exists()] == []


def test_architecture_names_what_its_files_define():
    rows = re.findall(r"^\| .+ \| `([\w/]+\.py)` \| `(\w+)` \|$", ARCHITECTURE, re.MULTILINE)
    assert len(rows) >= 22
    assert [row for row in rows if not re.search(rf"(def|class) {row[1]}\b", (PACKAGE / row[0]).read_text())] == []


def test_architecture_image_is_that_of_the_import_contract():
    names = runpy.run_path(str(ROOT / "docs" / "figures" / "architecture.py"))
    assert names["PICTURE"].read_text() == names["draw"](), "run docs/figures/architecture.py"


def test_architecture_lists_every_package():
    packages = [path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()]
    assert [name for name in packages if f"| `{name}/` |" not in ARCHITECTURE] == []
