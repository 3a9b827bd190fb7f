"""Nothing is seen under its name before it is complete."""

import os
import stat
import threading
from pathlib import Path

import pytest

from sagan_tf.export.publishing import new_file, new_version, next_version


def versions(directory):
    return sorted(path.name for path in Path(directory).iterdir() if path.name.isdigit())


@pytest.mark.parametrize(
    ("there", "following"),
    [([], 1), (["1"], 2), (["1", "3"], 4), (["9", "10"], 11), (["007"], 8), (["new", ".new-1", "2x", "-5", "1.5"], 1)],
)
def test_next_version_is_above_all_numbers(tmp_path, there, following):
    for name in there:
        (tmp_path / name).mkdir()
    assert next_version(tmp_path) == following


def test_version_appears_with_all_that_is_in_it(tmp_path):
    with new_version(tmp_path / "sagan") as new:
        (new.path / "deep").mkdir()
        (new.path / "deep" / "file").write_text("whole")
        assert versions(tmp_path / "sagan") == [] and new.path.name.startswith(".") and new.final_path is None
        assert new.path.parent == tmp_path / "sagan"  # elsewhere could be another disk, where a move is a copy
    assert new.final_path == tmp_path / "sagan" / "1" and (new.final_path / "deep" / "file").read_text() == "whole"
    assert os.listdir(tmp_path / "sagan") == ["1"]


def test_version_can_be_read_by_a_server_that_runs_as_somebody_else(tmp_path):
    with new_version(tmp_path) as new:
        pass
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(new.final_path.stat().st_mode) == 0o777 & ~umask


def test_failure_leaves_nothing_of_a_version(tmp_path):
    with pytest.raises(RuntimeError, match="half-way"), new_version(tmp_path) as new:
        (new.path / "file").write_text("half")
        raise RuntimeError("half-way")
    assert os.listdir(tmp_path) == []


def test_version_that_is_there_is_refused_and_kept(tmp_path):
    with new_version(tmp_path, 4) as new:
        (new.path / "file").write_text("first")
    with pytest.raises(FileExistsError, match="4: this version is there already"), new_version(tmp_path, 4):
        raise AssertionError("the body must not run")
    assert (tmp_path / "4" / "file").read_text() == "first"


@pytest.mark.parametrize(("version", "final"), [(None, "2"), (1, None)])
def test_version_that_another_process_made_meanwhile_is_kept(tmp_path, version, final):
    def make():
        with new_version(tmp_path, version) as new:
            (new.path / "file").write_text("ours")
            (tmp_path / "1").mkdir()
            (tmp_path / "1" / "file").write_text("theirs")
        return new.final_path

    if final is None:
        with pytest.raises(FileExistsError, match="1: this version is there already"):
            make()
    else:
        assert make() == tmp_path / final and (tmp_path / final / "file").read_text() == "ours"
    assert (tmp_path / "1" / "file").read_text() == "theirs"
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_versions_of_many_threads_are_all_kept(tmp_path):
    def make(text):
        with new_version(tmp_path) as new:
            (new.path / "file").write_text(text)

    threads = [threading.Thread(target=make, args=(str(i),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((tmp_path / str(i) / "file").read_text() for i in range(1, 9)) == [str(i) for i in range(8)]


@pytest.mark.parametrize("version", [0, -1, 1.0, "1", True])
def test_new_version_rejects_what_is_no_version(tmp_path, version):
    with pytest.raises(ValueError, match="`version` must be an integer >= 1.*Received"), new_version(tmp_path, version):
        raise AssertionError("the body must not run")


def test_file_is_replaced_at_once_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with new_file(path) as beside:
        beside.write_text("first")
        assert not path.exists() and beside.suffix == ".txt" and beside.name.startswith(".")
    with pytest.raises(RuntimeError, match="half-way"), new_file(path) as beside:
        beside.write_text("half")
        raise RuntimeError("half-way")
    assert path.read_text() == "first" and os.listdir(path.parent) == ["file.txt"]
