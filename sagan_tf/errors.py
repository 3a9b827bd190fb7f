"""The one error a user is meant to see: one line of what is wrong, where, and what to do; imports nothing of ours."""

import contextlib
import difflib
import errno
import signal
import sys
import threading

_NO_ROOM = (errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT)
_WRONG_KIND = (errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTEMPTY)


class UserError(Exception):
    """Bad input or surroundings; the message is one line, printed without traceback, exit code 2.

    One line it is whatever the names in it hold.
    """

    def __str__(self):
        return " ".join(super().__str__().split())


class Terminated(KeyboardInterrupt):
    """SIGTERM, which does then what Ctrl-C does."""


@contextlib.contextmanager
def one_line_errors(after_stop=""):
    """Turns a `UserError` into one line on stderr and exit code 2, and Ctrl-C and SIGTERM into a line and 130 and 143.

    A full disk, a missing permission and a folder where a file goes are reported likewise, with the path that the
    system names.

    Args:
        after_stop: str, what to say besides to whoever stopped the command.

    Raises:
        SystemExit: With code 2, 130 or 143.
    """
    try:
        with _terminated_by_signal():
            yield
    except UserError as error:
        message = str(error)
    except KeyboardInterrupt as stop:
        by, code = ("SIGTERM", 143) if isinstance(stop, Terminated) else ("the keyboard", 130)
        print(f"\nstopped by {by}. {after_stop}".rstrip(), file=sys.stderr)
        sys.exit(code)
    except OSError as error:
        where = f" `{error.filename}`" if error.filename else ""
        if error.errno in _NO_ROOM:
            message = f"cannot write{where}: {error.strerror}. Free some space or choose another run folder."
        elif error.errno in _WRONG_KIND:
            message = f"cannot use{where}: {error.strerror}. Move it away or name another."
        else:
            raise
    else:
        return
    print("error: " + " ".join(message.split()), file=sys.stderr)  # an OSError's names too
    sys.exit(2)


@contextlib.contextmanager
def _terminated_by_signal():
    """Makes SIGTERM a `Terminated`, unless somebody has other plans for it."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def terminate(number, frame):
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def did_you_mean(name, known, prefix=""):
    """Returns " Did you mean `x`?" with the known name nearest to `name`, or "" where none is near."""
    nearest = difflib.get_close_matches(name, known, 1, 0.7)
    return f" Did you mean `{prefix}{nearest[0]}`?" if nearest else ""
