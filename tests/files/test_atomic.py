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
        assert not path.exists() and temporary_path.suffix == ".txt" and temporary_path.name.startswith(".")
        assert temporary_path.parent == path.parent  # another folder could be on another disk, where a move is a copy
    with pytest.raises(RuntimeError, match="half-way"), atomic_write(path) as temporary_path:
        temporary_path.write_text("half")
        raise RuntimeError("half-way")
    assert path.read_text() == "first" and os.listdir(path.parent) == ["file.txt"]


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


@pytest.mark.parametrize("name", ["file", "file.tar.gz", ".hidden", ".share_1_of_2.json"])
def test_remove_temporary_files_removes_those_of_killed_processes(tmp_path, name):
    code = (
        "import os, sys\n"
        "from sagan_tf.files.atomic import atomic_write\n"
        "with atomic_write(sys.argv[1]) as temporary_path:\n"
        "    temporary_path.touch()\n"
        "    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / name)]).returncode == 9
    (tmp_path / ".mine.partial").touch()
    (left,) = [path.name for path in tmp_path.iterdir() if path.name != ".mine.partial"]
    assert is_temporary(left) and not is_temporary(name)
    remove_temporary_files(tmp_path, ["other", "file.gz"])
    assert (tmp_path / left).exists()
    remove_temporary_files(tmp_path, ["other", name])
    assert os.listdir(tmp_path) == [".mine.partial"]
