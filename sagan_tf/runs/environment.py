"""Versions, command and hardware of this process, recorded with every run and result."""

import datetime
import os
import platform
import sys
from pathlib import Path

import sagan_tf

_PACKAGES = ("sagan_tf", "python", "tensorflow", "keras", "numpy")


def describe_environment():
    """Describes when, by which command, with which versions and on which hardware this process runs: a dict."""
    # Imported here because reading a run folder needs none of them.
    import keras
    import numpy as np
    import tensorflow as tf

    gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return describe_process() | {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "gpus": [gpu.get("device_name", "unknown") for gpu in gpus],
    }


def describe_process():
    """As `describe_environment`, without what TensorFlow knows."""
    return {
        "started_at": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": sys.argv,
        "sagan_tf": sagan_tf.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": processor_entry("model name") or platform.processor() or platform.machine(),
        "cpu_cores": _cpu_cores(),
    }


def describe_start(hardware, is_compiled=False):
    """As `describe_environment`, with how a run computes, and how exactly it resumes.

    Args:
        hardware: `HardwareConfig` of the run.
        is_compiled: bool. Whether XLA compiles the training step: what `hardware.jit_compile` resolved to.
    """
    environment = describe_environment()
    is_exact = hardware.deterministic or not (environment["gpus"] or hardware.distribution == "tpu")
    return environment | {
        "precision": hardware.precision,
        "jit_compile": is_compiled,
        "tf32": hardware.tf32,
        "deterministic": hardware.deterministic,
        "resume": "bit by bit on the same kind and number of devices" if is_exact
        else "not bit by bit; hardware.deterministic makes it so",
    }  # fmt: skip


def versions_text(environment):
    """The versions in a dict of `describe_environment`, which may lack entries, as text."""
    return ", ".join(f"{name} {environment[name]}" for name in _PACKAGES if name in environment) or "unknown"


def hardware_text(environment):
    """The hardware in a dict of `describe_environment`, which may lack entries, as text."""
    cores = f"{environment['cpu_cores']} cores" if "cpu_cores" in environment else None
    gpus = ", ".join(map(str, environment.get("gpus") or ())) or "no GPU"
    return ", ".join(map(str, filter(None, (environment.get("cpu", "unknown"), cores, gpus))))


def processor_entry(name):
    """What Linux says of the first processor, such as its `model name` or `flags`; "" if it does not."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.partition(":")[0].strip() == name:
                return line.partition(":")[2].strip()
    return ""


def _cpu_cores():
    # The cores this process may use: containers get a share of the machine.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
