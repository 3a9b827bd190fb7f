"""What `hardware.precision: auto` is on faked processors and GPUs."""

import pytest
import tensorflow as tf

from sagan_tf.config import QUICK_START
from sagan_tf.experiment.build import network_options
from sagan_tf.experiment.precision import native_precision
from sagan_tf.runs import environment

INTEL = "model name\t: a Xeon\nflags\t\t: fpu avx512f amx_bf16 amx_tile\nvmx flags\t: ept\n"
OLD_INTEL = INTEL.replace("amx_bf16", "avx512_vnni")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    def fake(cpuinfo, *gpus):
        (tmp_path / "cpuinfo").write_text(cpuinfo)
        monkeypatch.setattr(environment, "Path", lambda _: tmp_path / "cpuinfo")
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: list(gpus))
        monkeypatch.setattr(tf.config.experimental, "get_device_details", dict)

    return fake


def gpu(*capability):
    return (("compute_capability", capability),)


@pytest.mark.parametrize(
    "cpuinfo, gpus, wanted",
    [
        (INTEL, [], "mixed_bfloat16"),
        ("flags : avx512_bf16\n", [], "mixed_bfloat16"),
        (OLD_INTEL, [], "float32"),
        ("vmx flags : avx512_bf16\n", [], "float32"),
        ("Features : fp asimd bf16\n", [], "float32"),  # Arm: TensorFlow does not use it
        ("", [], "float32"),
        (OLD_INTEL, [gpu(8, 0)], "mixed_bfloat16"),
        (OLD_INTEL, [gpu(10, 0), gpu(8, 9)], "mixed_bfloat16"),
        (INTEL, [gpu(7, 5)], "float32"),
        (INTEL, [gpu(9, 0), gpu(7, 0)], "float32"),
        (INTEL, [()], "float32"),
    ],
)
def test_native_precision_is_bfloat16_where_all_devices_are_made_for_it(cpuinfo, gpus, wanted, machine):
    machine(cpuinfo, *gpus)
    assert native_precision()[0] == wanted
    assert {options["dtype"] for options in network_options(QUICK_START, None)} == {wanted}
    assert native_precision("tpu")[0] == "mixed_bfloat16"


def test_native_precision_is_float32_without_onednn(machine, monkeypatch):
    machine(INTEL)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert native_precision()[0] == "float32"
