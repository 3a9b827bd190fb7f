"""The one error a user is meant to see: one line of what is wrong, where, and what to do; imports nothing of ours."""

import argparse
import contextlib
import errno
import sys

_NO_ROOM = (errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT)
_WRONG_KIND = (errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTEMPTY)


class UserError(Exception):
    """Bad input or surroundings; the message is one line, printed without traceback, exit code 2."""


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose complaints are `UserError`s; argparse's own print the usage first."""

    def error(self, message):
        raise UserError(f"command line: {message}. --help lists the options.")


@contextlib.contextmanager
def one_line_errors():
    """Turns a `UserError` into one line on stderr and exit code 2, and Ctrl-C into exit code 130.

    A full disk, a missing permission and a folder where a file goes are reported likewise, with the path that the
    system names.

    Raises:
        SystemExit: With code 2 or 130.
    """
    try:
        yield
    except UserError as error:
        message = str(error)
    except KeyboardInterrupt:
        print("\nstopped by the keyboard.", file=sys.stderr)
        sys.exit(130)
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
    print("error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)
