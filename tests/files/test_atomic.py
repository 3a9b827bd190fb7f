"""Files and folders appear complete or not at all, and killed processes' temporary files are removed."""

import os
import subprocess
import sys

import pytest

from sagan_tf.files.atomic import atomic_folder, atomic_write, is_temporary, remove_temporary_files, write_text


def test_atomic_write_replaces_file_completely_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with atomic_write(path) as temporary_path:
        temporary_path.write_text("first")
        assert not path.exists() and temporary_path.name == path.name
        # Anywhere else could be on another disk, where a move is a copy.
        assert temporary_path.parent.parent == path.parent and temporary_path.parent.name.startswith(".")
    with pytest.raises(RuntimeError, match="half-way"), atomic_write(path) as temporary_path:
        temporary_path.write_text("half")
        raise RuntimeError("half-way")
    assert path.read_text() == "first" and os.listdir(path.parent) == ["file.txt"]


def test_atomic_write_follows_no_link(tmp_path):
    foreign = tmp_path / "foreign"
    foreign.write_text("not ours")
    (tmp_path / "folder").mkdir()
    for name in ("file", ".file.partial", f".file.{os.getpid()}.partial", ".file.abcdefgh.partial"):
        os.symlink(foreign, tmp_path / "folder" / name)
    write_text(tmp_path / "folder" / "file", "ours")
    remove_temporary_files(tmp_path / "folder")
    assert foreign.read_text() == "not ours" and (tmp_path / "folder" / "file").read_text() == "ours"


def test_write_text_writes_utf_8(tmp_path):
    write_text(tmp_path / "file", "grün\n")
    assert (tmp_path / "file").read_bytes() == b"gr\xc3\xbcn\n"


def test_atomic_folder_replaces_folder_completely_or_not_at_all(tmp_path):
    for text in ("first", "second"):
        with atomic_folder(tmp_path / "deep" / "folder") as temporary_folder:
            (temporary_folder / text).write_text(text)
        assert [path.name for path in (tmp_path / "deep").rglob("*")] == ["folder", text]
    with pytest.raises(RuntimeError, match="half-way"), atomic_folder(tmp_path / "deep" / "folder") as temporary_folder:
        (temporary_folder / "half").write_text("half")
        raise RuntimeError("half-way")
    assert [path.name for path in (tmp_path / "deep").rglob("*")] == ["folder", "second"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", [1, 2])
def test_atomic_folder_interrupted_between_its_renames_loses_no_folder(tmp_path, monkeypatch, number, when):
    with atomic_folder(tmp_path / "folder") as temporary_folder:
        (temporary_folder / "first").touch()
    rename, calls = os.rename, []

    def interrupted(source, target):
        calls.append(source)
        if (len(calls), when) == (number, "before"):
            raise KeyboardInterrupt
        rename(source, target)
        if (len(calls), when) == (number, "after"):
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "folder") as temporary_folder:
        (temporary_folder / "second").touch()
    left = ["second"] if (number, when) == (2, "after") else ["first"]
    assert os.listdir(tmp_path) == ["folder"] and os.listdir(tmp_path / "folder") == left


def test_atomic_folder_follows_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with atomic_folder(tmp_path / "link") as temporary_folder:
        (temporary_folder / "new").touch()
        (temporary_folder / "nowhere").symlink_to("nothing")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "new").exists()


WRITE_AND_DIE = """
import contextlib, os, sys
from sagan_tf.files.atomic import atomic_write
stack = contextlib.ExitStack()
for path in sys.argv[1:]:
    stack.enter_context(atomic_write(path)).touch()
os._exit(9)
"""


def test_remove_temporary_files_removes_those_of_killed_processes(tmp_path):
    names = ["file", "file.tar.gz", ".hidden", ".share_1_of_2.json"]
    process = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, *(str(tmp_path / name) for name in names)])
    assert process.returncode == 9
    left = os.listdir(tmp_path)
    assert len(left) == 4 and all(map(is_temporary, left)) and not any(map(is_temporary, names))
    (tmp_path / ".mine.partial").touch()
    remove_temporary_files(tmp_path, ["other", "file.gz"])
    assert len(os.listdir(tmp_path)) == 5
    for count, name in enumerate(names[:3], start=1):
        remove_temporary_files(tmp_path, ["other", name])
        assert len(os.listdir(tmp_path)) == 5 - count
    remove_temporary_files(tmp_path)
    assert os.listdir(tmp_path) == [".mine.partial"]
