"""What malloc keeps for itself, where it is glibc's: a tenth of a small run's memory."""

import ctypes
import functools
import os
import platform

_M_ARENA_MAX = -8  # malloc.h


def limit_arenas():
    """Gives malloc an arena a core, and not eight: each keeps what its threads have freed. For the whole process.

    TensorFlow's tensors do not come from there, so that threads seldom wait for one another.
    """
    if _glibc() is not None:
        _glibc().mallopt(_M_ARENA_MAX, len(os.sched_getaffinity(0)))


def give_back_freed():
    """Gives freed memory back to the system: tracing a training step leaves some 80 MiB of it."""
    if _glibc() is not None:
        _glibc().malloc_trim(0)


@functools.cache
def _glibc():
    """The C library, or None where it is not glibc."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
