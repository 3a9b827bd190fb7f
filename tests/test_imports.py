"""Import rules of setup.cfg."""

import configparser
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import sagan_tf

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "config": {"commands", "config", "configs", "experiment", "runs", "train"},
    "kernels": {"accelerate", "experiment", "training"},
}


def test_package_imports_point_down():
    pytest.importorskip("importlinter", reason="import-linter comes with the extra `test`")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports('setup.cfg'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("contract", ALLOWED)
def test_import_rules_name_every_module_that_they_bind(contract):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    bound = setup[f"importlinter:contract:{contract}"]["source_modules"].split()
    modules = {module.name for module in pkgutil.iter_modules(sagan_tf.__path__)}
    assert sorted(bound) == sorted(f"sagan_tf.{name}" for name in modules - ALLOWED[contract])
