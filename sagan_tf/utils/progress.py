"""Progress of long work, on stderr: a bar on a terminal or in a notebook, and in a log file a line every 30 seconds."""

import sys
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # without ipywidgets, the bar of a notebook is text
    from tqdm.auto import tqdm

_LOG_SECONDS = 30


def shows_bars():
    """Whether stderr is a terminal or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def progress_bar(*args, **options):
    """Makes a `tqdm` of the same arguments, which in a log file shows itself every 30 seconds, from the 30th on."""
    if not shows_bars():
        times = {"mininterval": _LOG_SECONDS, "maxinterval": _LOG_SECONDS, "delay": _LOG_SECONDS}
        options = {"file": _Lines(sys.stderr), **times, **options}
    return tqdm(*args, **options)


class _Lines:
    """A text file for a bar, which would redraw itself in its line: writes each state as a line of its own."""

    def __init__(self, file):
        self._file = file

    def write(self, text):
        if text := text.strip():
            self._file.write(f"{text}\n")

    def __getattr__(self, name):
        return getattr(self._file, name)
