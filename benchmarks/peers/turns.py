"""Protocol of a benchmark contender; uses the standard library only, for any Python.

A contender is a process that writes one line of JSON for each event: first its description; then, for every line `N` on
its standard input, the wall and CPU seconds (of all threads) of N steps; at the end of the input its peak memory, and
that on its GPU if it has one. It uses no CPU time while it waits, so that contenders can run interleaved.
"""

import json
import sys
import time
from pathlib import Path


def resident_mib(name):
    """Resident memory: `VmRSS` is the current value, `VmHWM` the peak; Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {name}: memory is measured on Linux only")


def take_turns(step, description, imported_mib, warm_up=2, processor_clock=time.process_time, gpu_peak=None):
    """Runs `step()`, which waits for its result, on request until the input ends.

    `gpu_peak()` returns the peak memory on the GPU in bytes.
    """
    began = time.perf_counter()
    for _ in range(warm_up):
        step()
    say(description | {"warm_up_seconds": time.perf_counter() - began})
    for line in sys.stdin:
        began = time.perf_counter(), processor_clock()
        for _ in range(int(line)):
            step()
        say({"wall": time.perf_counter() - began[0], "processor": processor_clock() - began[1]})
    peak = resident_mib("VmHWM")
    memory = {"peak_mib": peak, "peak_without_libraries_mib": peak - imported_mib}
    say(memory | ({"gpu_peak_mib": gpu_peak() / 2**20} if gpu_peak else {}))


def say(value):
    print(json.dumps(value), flush=True)
