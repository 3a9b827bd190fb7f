"""Errors that users see as one line: what is wrong, where, and what to do. Imports nothing of the package."""

import contextlib
import difflib
import errno
import numbers
import os
import signal
import sys
import threading

_NOT_WRITABLE = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM)  # to read or to write
_WRONG_KIND = (errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTEMPTY)
# Exit codes of a command that a signal stopped, as a shell gives them.
STOPPED_CODES = {name: 128 + getattr(signal, name) for name in ("SIGINT", "SIGTERM")}
_UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def summarize(error, max_length=200):
    """The text of an error in one line of at most `max_length` characters."""
    return " ".join(str(error).split())[:max_length]


def list_some(names, most, separator=", "):
    """Lists names in a line, at most this many: `a, b and 3 more`, or with the separator `; ` `a; b; and 3 more`."""
    rest = f"{separator.rstrip(', ')} and {len(names) - most} more" if len(names) > most else ""
    return separator.join(map(str, names[:most])) + rest


def check_utf8(where, name):
    """Raises UserError for a name or path that is not UTF-8, of which Python makes a text that cannot be written."""
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        raise UserError(f"{where}: the name {os.fsencode(name)} is not valid UTF-8. Rename it.")


def check_positive_int(name, value):
    """Returns an argument as int; raises ValueError unless it is an integer >= 1, of NumPy too, and not a bool."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"`{name}` must be an integer >= 1. Received: {name}={value!r}.")
    return int(value)


def format_size(num_bytes):
    """Formats a byte count in the largest of GiB, MiB and KiB that gives at least 1."""
    unit, size = next(((unit, size) for unit, size in _UNITS if num_bytes >= size), _UNITS[-1])
    return f"{num_bytes / size:.1f} {unit}"


def format_image_size(image_size):
    """Formats (height, width): `64` for a square, else `64x96`."""
    height, width = image_size
    return str(height) if height == width else f"{height}x{width}"


class UserError(Exception):
    """Bad input or environment. The message is printed as one line without traceback; the exit code is 2."""

    def __str__(self):
        return _one_line(super().__str__())


@contextlib.contextmanager
def renamed_options(names):
    """Raises the UserErrors of a block with other names of options, where commands call what they share differently.

    Args:
        names: dict, text in a message -> text in its place.
    """
    try:
        yield
    except UserError as error:
        text = str(error)
        for name, other in names.items():
            text = text.replace(name, other)
        raise UserError(text) from None


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C."""


@contextlib.contextmanager
def one_line_errors(after_stop=""):
    """Ends a command with one line on stderr instead of a traceback, for errors that the user can fix.

    Also covers a full disk, a missing permission, a path that does not exist and cannot be created, and a folder in
    place of a file or vice versa. Makes stdout line-buffered, and escapes letters that its encoding lacks (`\\u732b`).

    Args:
        after_stop: str, printed after "stopped by ..." on Ctrl-C or SIGTERM.

    Raises:
        SystemExit: With code 2 on an error, 130 on Ctrl-C, 143 on SIGTERM.
    """
    if hasattr(sys.stdout, "reconfigure"):
        # As Python's stderr. Otherwise a log file gets its lines when the command ends, or never if it is killed.
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
    try:
        with _raise_on_sigterm():
            yield
    except UserError as error:
        _exit(f"error: {error}", 2)
    except KeyboardInterrupt as stop:
        name = "SIGTERM" if isinstance(stop, Terminated) else "SIGINT"
        _exit(stop_line(name, after_stop), STOPPED_CODES[name])
    except BrokenPipeError:
        # Python would complain again when it flushes the output at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _exit(f"error: the program that reads the output has ended. {after_stop}".rstrip(), 2)
    except OSError as error:
        where = f" `{error.filename}`" if error.filename else ""
        if error.errno in _NOT_WRITABLE:
            advice = f"cannot write{where}: {error.strerror}. Free some space or choose another folder."
        elif error.errno in _NOT_ALLOWED:
            advice = f"cannot use{where}: {error.strerror}. Change its permissions or choose another path."
        elif error.errno in _WRONG_KIND:
            advice = f"cannot use{where}: {error.strerror}. Move it away or choose another path."
        elif error.errno == errno.ENOENT:  # on reading or on writing, as in /proc
            advice = f"cannot open or create{where}: {error.strerror}. Choose another path."
        else:
            raise
        _exit(f"error: {_one_line(advice)}", 2)


def stop_line(signal_name, after_stop=""):
    """The line of a command that the signal SIGINT or SIGTERM ended."""
    source = "the keyboard" if signal_name == "SIGINT" else signal_name
    return f"\nstopped by {source}. {after_stop}".rstrip()


def _exit(message, code):
    with contextlib.suppress(OSError):  # nobody may read it any more
        print(message, file=sys.stderr, flush=True)
    sys.exit(code)


def _one_line(text):
    return " ".join(filter(None, map(str.strip, text.splitlines())))  # keeps two spaces in the name of a file


@contextlib.contextmanager
def _raise_on_sigterm():
    """Raises `Terminated` on SIGTERM, unless another handler is installed."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def terminate(number, frame):
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def install_hint(extra):
    """How to install the packages of an extra of setup.cfg; sagan_tf is not on PyPI."""
    return f"Run `pip install '.[{extra}]'` in the folder of the repository, or `pip install 'WHEEL[{extra}]'`."


def did_you_mean(name, known, prefix="", similarity=0.7):
    """Returns " Did you mean `x`?" with the known name nearest to `name`, or "" where none is near."""
    nearest = difflib.get_close_matches(name, known, 1, similarity)
    return f" Did you mean `{prefix}{nearest[0]}`?" if nearest else ""
