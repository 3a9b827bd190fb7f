"""The folder for what is downloaded or compiled once."""

import os
from pathlib import Path


def user_cache_folder():
    """Returns `$XDG_CACHE_HOME/sagan_tf`, or `~/.cache/sagan_tf`, a pathlib.Path."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sagan_tf"
