"""Resolves `hardware.precision: auto` by the run folder or the devices."""

import dataclasses
import os

import tensorflow as tf

from sagan_tf.runs.environment import processor_entry
from sagan_tf.runs.folder import Run

# oneDNN emulates bfloat16 on x86 processors without one of these. On Arm, TensorFlow does not give it to oneDNN.
_PROCESSOR_FLAGS = {"avx512_bf16", "amx_bf16"}
_FIRST_CAPABILITY = 8, 0  # Ampere


def resolve_precision(config):
    """A `Config` with a precision that is not `auto`: that of its run if it resumes, else `native_precision`'s."""
    hardware = config.hardware
    if hardware.precision != "auto":
        return config
    precision, reason = _precision_of_run(config), "as the run so far"
    if precision in (None, "auto"):
        precision, reason = native_precision(hardware.distribution)
    print(f"Precision: {precision} (hardware.precision: auto; {reason})")
    return dataclasses.replace(config, hardware=dataclasses.replace(hardware, precision=precision))


def native_precision(distribution="auto"):
    """Returns the policy that the devices support natively, and the reason: (`mixed_bfloat16` or `float32`, str)."""
    gpus = tf.config.list_physical_devices("GPU")
    if distribution == "tpu":
        is_native, devices = True, "TPUs"
    elif gpus:
        details = map(tf.config.experimental.get_device_details, gpus)
        capabilities = [detail.get("compute_capability", (0, 0)) for detail in details]
        is_native, devices = min(capabilities) >= _FIRST_CAPABILITY, "the GPUs"
    else:
        is_native, devices = _is_native_on_processor(), "the processor"
    if is_native:
        return "mixed_bfloat16", f"bfloat16 is native to {devices}"
    return "float32", f"bfloat16 would be emulated on {devices}"


def _is_native_on_processor():
    uses_onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1").lower() not in ("0", "false")
    return uses_onednn and not _PROCESSOR_FLAGS.isdisjoint(processor_entry("flags").split())


def _precision_of_run(config):
    if config.run is not None and os.path.isfile(Run(config.run).config_path):
        return Run.open(config.run).config().hardware.precision
    return None
