"""Memory of malloc: fewer arenas; freed memory is returned to the system."""

import ctypes
import os
import platform
import subprocess
import sys

import pytest

from sagan_tf.training import memory

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")

ALLOCATE_IN_THREADS = """
import ctypes, os, runpy, sys, threading
if sys.argv[1] == "limited":
    runpy.run_path(sys.argv[3])["limit_arenas"]()  # an import of the package would start TensorFlow
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
count = 4 * len(os.sched_getaffinity(0))
together = threading.Barrier(count)
def allocate():
    together.wait()
    for _ in range(200):
        libc.malloc(5000)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(count)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.fopen.restype, libc.malloc_info.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, file)
libc.fclose(file)
"""


@needs_glibc
def test_limit_arenas_allows_no_more_arenas_than_cores(tmp_path):
    counts = {}
    for mode in ("limited", "free"):
        path = tmp_path / mode
        command = [sys.executable, "-c", ALLOCATE_IN_THREADS, mode, str(path), memory.__file__]
        subprocess.run(command, check=True, capture_output=True)
        counts[mode] = path.read_text().count("<heap nr=")
    cores = len(os.sched_getaffinity(0))
    assert counts["limited"] <= cores < counts["free"]


@needs_glibc
def test_give_back_freed_returns_memory_to_the_system():
    libc = memory._glibc()
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [libc.malloc(50_000) for _ in range(4000)]  # below malloc's threshold for mmap
    for block in blocks:
        ctypes.memset(block, 1, 50_000)
    last = libc.malloc(50_000)  # at a higher address, so that malloc itself returns nothing
    for block in blocks:
        libc.free(block)
    before = resident_mib()
    memory.give_back_freed()
    assert resident_mib() < before - 100
    libc.free(last)


def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_memory_functions_do_nothing_without_glibc(monkeypatch):
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    memory.limit_arenas()
    memory.give_back_freed()
