"""The folder of the cache, also of users without a home folder."""

import pwd
from pathlib import Path

import pytest

from sagan_tf.errors import UserError
from sagan_tf.files.cache import user_cache_folder


@pytest.fixture
def homeless(monkeypatch, tmp_path):  # pytest asks for the user's name for the latter
    """Neither HOME nor an entry in the list of users, as for another user's number in a container."""

    def unknown(number):
        raise KeyError(number)

    for name in ("SAGAN_TF_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    return monkeypatch


def test_cache_of_user_without_home_must_be_named(homeless):
    with pytest.raises(UserError, match="this user has no home folder. Set SAGAN_TF_CACHE to one"):
        user_cache_folder()
    homeless.setenv("SAGAN_TF_CACHE", "/somewhere")
    assert user_cache_folder() == Path("/somewhere")


def test_checked_files_and_fonts_need_no_home(homeless, tmp_path):
    from sagan_tf.data import checked_files
    from sagan_tf.viewing import text

    homeless.setattr(checked_files, "MIN_FILES", 1)
    files = checked_files.CheckedFiles(tmp_path, "train", [__file__])
    assert files.known.tolist() == [False]
    files.save()
    text._system_fonts.__wrapped__()
