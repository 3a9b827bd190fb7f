"""A lock between processes raises an error or waits."""

import errno
import os
import threading

import filelock
import pytest

from sagan_tf.errors import UserError
from sagan_tf.files.locks import exclusive


def test_exclusive_rejects_second_holder_when_error_is_given(tmp_path):
    path = tmp_path / ".lock"
    with exclusive(path, error="busy"):
        with pytest.raises(UserError, match="^busy$"), exclusive(path, error="busy"):
            raise AssertionError("the block must not run")
    with exclusive(path, error="busy"):
        pass


def test_exclusive_waits_for_holder_when_no_error_is_given(tmp_path, capsys):
    path, order = tmp_path / ".lock", []

    def second():
        with exclusive(path, notice="waiting"):
            order.append("second")

    with exclusive(path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"] and capsys.readouterr().out == "waiting\n"


def test_exclusive_removes_lock_file_when_asked(tmp_path):
    with exclusive(tmp_path / ".lock", remove=True):
        assert (tmp_path / ".lock").exists()
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_exclusive_names_a_disk_without_locks(tmp_path, monkeypatch, number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock.FileLock, "acquire", fail)
    with pytest.raises(UserError, match=r"\.lock: its disk has no file locks \(.*\). Choose a folder elsewhere"):
        with exclusive(tmp_path / ".lock", error="busy"):
            raise AssertionError("the block must not run")
