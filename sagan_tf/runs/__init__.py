"""The run folder: its paths, and what is written to and read from it."""

from typing import TYPE_CHECKING

from sagan_tf.utils.lazy import lazy_exports

if TYPE_CHECKING:
    from sagan_tf.runs.folder import Run as Run

# Lazily: what describes this process needs no config.
__getattr__, __dir__ = lazy_exports(__name__, {"Run": "sagan_tf.runs.folder"})
