"""The folder for what is downloaded or compiled once."""

import os
from pathlib import Path


def user_cache_folder():
    """Returns `$SAGAN_TF_CACHE`, `$XDG_CACHE_HOME/sagan_tf` or `~/.cache/sagan_tf`, a pathlib.Path."""
    if folder := os.environ.get("SAGAN_TF_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sagan_tf"
