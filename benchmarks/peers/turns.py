"""How a contender of a benchmark waits for its turn; imports the standard library alone, for any Python.

A contender is a process. It says on its standard output, a line of JSON each, first what it is; then for every line
`N` on its standard input what N steps took, in seconds of the wall and of the processor (all threads together); at the
end of the input its peak memory. While it waits it takes no processor time, so that contenders can take turns.
"""

import json
import sys
import time
from pathlib import Path


def resident_mib(name):
    """`VmRSS` now or `VmHWM` at its peak; Linux."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {name}: memory is measured on Linux alone")


def take_turns(step, description, imported_mib, warm_up=2):
    """Answers until the input ends.

    Args:
        step: Function without arguments that makes one step and waits for its end.
        description: dict, what it is.
        imported_mib: Resident memory before anything was built.
        warm_up: Steps before the first turn.
    """
    began = time.perf_counter()
    for _ in range(warm_up):
        step()
    say(description | {"warm_up_seconds": time.perf_counter() - began})
    for line in sys.stdin:
        began = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            step()
        say({"wall": time.perf_counter() - began[0], "processor": time.process_time() - began[1]})
    say({"peak_mib": resident_mib("VmHWM"), "peak_without_libraries_mib": resident_mib("VmHWM") - imported_mib})


def say(value):
    print(json.dumps(value), flush=True)
