"""Compilation of the kernels: once per machine; failures are reported in one line."""

import os
import subprocess
import sys

import pytest
from accelerate.test_compiled import needs_compiler

from sagan_tf.accelerate import compiled
from sagan_tf.errors import UserError


def fresh(monkeypatch, folder):
    """Simulates a machine that has compiled nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    compiled.load.cache_clear()
    monkeypatch.setattr(compiled.tf, "load_op_library", lambda path: path)


@pytest.fixture
def load_again():
    yield
    compiled.load.cache_clear()


def test_compiled_load_reports_missing_compiler_in_one_line(monkeypatch, tmp_path, load_again):
    fresh(monkeypatch, tmp_path)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"needs a C\+\+ compiler, and there is none of c\+\+, g\+\+, .* Install"):
        compiled.load()
    monkeypatch.setenv("CXX", "clang++-99 -O2")
    with pytest.raises(UserError, match="there is no `clang[+][+]-99` that CXX names"):
        compiled.load()
    assert not list(tmp_path.rglob("*.so"))


@pytest.mark.parametrize(("script", "reason"), [
    ("echo 'x.cc:1: error: no such' >&2; exit 1", "fails on compiled.cc: x.cc:1: error: no such. Set"),
    ("exit 3", "fails on compiled.cc: exit code 3. Set"),
])  # fmt: skip
def test_compiled_load_reports_failing_compiler_and_leaves_no_file(script, reason, monkeypatch, tmp_path, load_again):
    fresh(monkeypatch, tmp_path / "cache")
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(UserError, match=reason):
        compiled.load()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_compiled_load_reports_unwritable_cache_in_one_line(monkeypatch, tmp_path, load_again):
    (tmp_path / "sagan_tf").write_text("a file in the way")
    fresh(monkeypatch, tmp_path)
    monkeypatch.setenv("CXX", "true")
    with pytest.raises(UserError, match="cannot compile into .* Set SAGAN_TF_CACHE"):
        compiled.load()


def test_compiled_load_reports_damaged_library_in_one_line(monkeypatch, tmp_path, load_again):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled.load.cache_clear()
    path = compiled.library_path()
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x7fELF and no more")
    with pytest.raises(UserError, match="cannot load .* Remove the file"):
        compiled.load()


@needs_compiler
@pytest.mark.stress
def test_compiled_load_compiles_once_per_machine(tmp_path):
    code = "from sagan_tf.accelerate import compiled as n; print(n.load().sagan_tf_relu([1.0, -1.0]).numpy())"
    code = code.replace("[1.0, -1.0]", "__import__('tensorflow').constant([1, -1], 'bfloat16')")
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "CXXFLAGS": "-O0"}
    said = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert [run.stdout.strip() for run in said] == ["[1 0]"] * 2
    assert ["Compiling kernels, once: " in run.stderr for run in said] == [True, False]
    assert len(list((tmp_path / "sagan_tf").iterdir())) == 1
