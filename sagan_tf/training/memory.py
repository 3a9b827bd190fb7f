"""Memory that glibc's malloc keeps for itself: a tenth of that of a small run."""

import ctypes
import functools
import os
import platform

_M_ARENA_MAX = -8  # malloc.h


def limit_arenas():
    """Limits malloc in this process to one arena per core, not eight: each keeps what its threads have freed."""
    if _glibc() is not None:
        _glibc().mallopt(_M_ARENA_MAX, len(os.sched_getaffinity(0)))


def give_back_freed():
    """Returns freed memory to the system: some 80 MiB after a training step was traced."""
    if _glibc() is not None:
        _glibc().malloc_trim(0)


@functools.cache
def _glibc():
    """The C library, None if it is not glibc."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
