"""A full disk: one line, no incomplete files, and the same command continues once there is space."""

import resource
import subprocess
import sys

import pytest
from tiny_runs import tiny_config, tiny_flags, untimed

from sagan_tf.experiment.train import train
from sagan_tf.runs.folder import Run


def train_with_limit(run, limit):
    # A file size limit simulates a full disk without root.
    return subprocess.run(
        [sys.executable, "-m", "sagan_tf.train", *tiny_flags(run, output__sample_interval=4)],
        capture_output=True, text=True, timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are set as on Linux")
@pytest.mark.parametrize("goes_on", [False, pytest.param(True, marks=pytest.mark.stress)])
def test_train_reports_one_line_when_disk_is_full(tmp_path, goes_on):
    done = train_with_limit(tmp_path / "run", 1 << 20)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "the checkpoint of step 2 cannot be written" in line and "run the same command to continue" in line
    assert "Traceback" not in done.stderr
    run = Run(tmp_path / "run")
    assert not list(run.path.rglob("*temp*")) and not list(run.path.rglob("*partial*")) and not run.checkpoints()
    if goes_on:
        train(tiny_config(run.path, steps=4))
        assert [line["step"] for line in run.read_metrics()] == [1, 2, 3, 4]


@pytest.mark.stress
def test_resume_removes_incomplete_files(tmp_path):
    run = train(tiny_config(tmp_path / "run", steps=2))
    (run.checkpoints_path / "ckpt-4_temp").mkdir()
    (run.checkpoints_path / "ckpt-4_temp" / "part").write_bytes(b"half")
    (run.path / ".generator.keras.abcdefgh.partial").mkdir()
    (run.samples_path / ".step_00000004.png.abcdefgh.partial").mkdir()
    before = untimed(run)
    train(tiny_config(run.path, steps=4))
    assert not list(run.path.rglob("*temp*")) and not list(run.path.rglob("*partial*"))
    assert untimed(run)[:2] == before
