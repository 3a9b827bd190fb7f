"""What a run records of how it computes."""

import pytest

from sagan_tf.config import HardwareConfig
from sagan_tf.runs import environment


@pytest.mark.parametrize("gpus, deterministic, promise", [
    ([], False, "bit by bit on"), (["H100"], True, "bit by bit on"), (["H100"], False, "not bit by bit; hardware."),
])  # fmt: skip
def test_environment_says_how_exactly_a_run_resumes(gpus, deterministic, promise, monkeypatch):
    monkeypatch.setattr(environment, "describe_environment", lambda: {"gpus": gpus})
    start = environment.describe_start(HardwareConfig(deterministic=deterministic), is_compiled=deterministic)
    assert start["resume"].startswith(promise) and start["jit_compile"] is deterministic
