"""Versions of a served model appear complete and under unique numbers."""

import os
import stat
import threading
from pathlib import Path

import pytest

from sagan_tf.export.model_versions import new_version, next_version


def versions(directory):
    return sorted(path.name for path in Path(directory).iterdir() if path.name.isdigit())


@pytest.mark.parametrize(
    ("there", "following"),
    [
        ([], 1),
        (["1"], 2),
        (["1", "3"], 4),
        (["9", "10"], 11),
        (["007"], 8),
        (["2", "9" * 20], 3),
        (["2", "1796058323896830123"], 1796058323896830124),  # of nanoseconds
        (["2", str(2**63 - 1)], 3),
        (["new", ".new-1", "2x", "-5", "1.5"], 1),
    ],
)
def test_next_version_exceeds_all_existing_versions(tmp_path, there, following):
    for name in there:
        (tmp_path / name).mkdir()
    assert next_version(tmp_path) == following


def test_new_version_appears_only_when_complete(tmp_path):
    with new_version(tmp_path / "sagan") as new:
        (new.path / "deep").mkdir()
        (new.path / "deep" / "file").write_text("whole")
        assert versions(tmp_path / "sagan") == [] and new.path.name.startswith(".") and not hasattr(new, "final_path")
        assert new.path.parent == tmp_path / "sagan"  # another folder could be on another disk, where a move is a copy
    assert new.final_path == tmp_path / "sagan" / "1" and (new.final_path / "deep" / "file").read_text() == "whole"
    assert os.listdir(tmp_path / "sagan") == ["1"]


def test_new_version_is_readable_by_other_users(tmp_path):
    with new_version(tmp_path) as new:
        pass
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(new.final_path.stat().st_mode) == 0o777 & ~umask


def test_new_version_leaves_nothing_when_the_block_fails(tmp_path):
    with pytest.raises(RuntimeError, match="half-way"), new_version(tmp_path) as new:
        (new.path / "file").write_text("half")
        raise RuntimeError("half-way")
    assert os.listdir(tmp_path) == []


def test_new_version_rejects_existing_version_and_keeps_it(tmp_path):
    with new_version(tmp_path, 4) as new:
        (new.path / "file").write_text("first")
    with pytest.raises(FileExistsError, match="4: this version exists already"), new_version(tmp_path, 4):
        raise AssertionError("the body must not run")
    assert (tmp_path / "4" / "file").read_text() == "first"


@pytest.mark.parametrize(("version", "final"), [(None, "2"), (1, None)])
def test_new_version_keeps_version_published_by_another_process(tmp_path, version, final):
    def make():
        with new_version(tmp_path, version) as new:
            (new.path / "file").write_text("ours")
            (tmp_path / "1").mkdir()
            (tmp_path / "1" / "file").write_text("theirs")
        return new.final_path

    if final is None:
        with pytest.raises(FileExistsError, match="1: this version exists already"):
            make()
    else:
        assert make() == tmp_path / final and (tmp_path / final / "file").read_text() == "ours"
    assert (tmp_path / "1" / "file").read_text() == "theirs"
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_new_version_numbers_are_unique_when_threads_publish_at_once(tmp_path):
    def make(text):
        with new_version(tmp_path) as new:
            (new.path / "file").write_text(text)

    threads = [threading.Thread(target=make, args=(str(i),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((tmp_path / str(i) / "file").read_text() for i in range(1, 9)) == [str(i) for i in range(8)]


@pytest.mark.parametrize("version", [0, -1, 1.0, "1", True, 2**63])
def test_new_version_rejects_invalid_number(tmp_path, version):
    with (
        pytest.raises(ValueError, match="`version` must be an integer from 1 to .*Received"),
        new_version(tmp_path, version),
    ):
        raise AssertionError("the body must not run")
