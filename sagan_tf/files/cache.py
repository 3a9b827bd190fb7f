"""The folder for what is downloaded or compiled once."""

import os
from pathlib import Path

from sagan_tf.errors import UserError


def user_cache_folder():
    """Returns `$SAGAN_TF_CACHE`, `$XDG_CACHE_HOME/sagan_tf` or `~/.cache/sagan_tf`, a pathlib.Path.

    Raises:
        UserError: None of these is known.
    """
    if folder := os.environ.get("SAGAN_TF_CACHE"):
        return Path(folder)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sagan_tf"
    except RuntimeError:  # HOME is not set and the user is not in the list of users, as in some containers
        raise UserError("no folder for the cache: this user has no home folder. Set SAGAN_TF_CACHE to one.") from None
