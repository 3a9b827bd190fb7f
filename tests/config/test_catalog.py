"""The configs that come with the package are found, also in a checkout without symbolic links."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_configs_are_found_where_git_makes_no_links(tmp_path):
    shutil.copytree(ROOT / "sagan_tf", tmp_path / "sagan_tf", ignore=shutil.ignore_patterns("weights", "presets"))
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "sagan_tf" / "config" / "presets").write_text("../../configs")
    code = "from sagan_tf.config import QUICK_START; print(QUICK_START.data.name)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout == "twins\n", result.stderr
