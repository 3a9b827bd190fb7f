"""What a run ran on, so that its numbers say how they were made."""

import datetime
import os
import platform
import sys
from pathlib import Path

import sagan_tf


def describe_environment():
    """Describes this process's surroundings.

    Returns:
        dict of str: when, with which command, which versions, on which processors.
    """
    # Not at import: readers of a run folder need none of them.
    import keras
    import numpy as np
    import tensorflow as tf

    gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return {
        "started_at": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": sys.argv,
        "sagan_tf": sagan_tf.__version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_cores": _cpu_cores(),
        "gpus": [gpu.get("device_name", "unknown") for gpu in gpus],
    }


def _cpu_name():
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpu_cores():
    # Those that this process may use, not those of the machine: containers get a share.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
