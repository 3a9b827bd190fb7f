"""A full disk: one line, no incomplete files, and the same command continues once there is space."""

import contextlib
import resource
import sys

import pytest
from tiny_runs import tiny_config, tiny_flags, untimed

from sagan_tf import train as train_command
from sagan_tf.experiment.train import train
from sagan_tf.runs.folder import Run

pytestmark = pytest.mark.usefixtures("quick_training")


@contextlib.contextmanager
def largest_file(size):
    """Simulates a full disk without root."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are set as on Linux")
@pytest.mark.parametrize("goes_on", [False, pytest.param(True, marks=pytest.mark.stress)])
def test_train_reports_one_line_when_disk_is_full(tmp_path, capsys, goes_on):
    options = dict(output__sample_interval=4, generator__channels=64)  # weights beyond the limit
    with largest_file(1 << 20), pytest.raises(SystemExit) as caught:
        train_command.main(tiny_flags(tmp_path / "run", **options))
    assert caught.value.code == 2
    err = capsys.readouterr().err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "the checkpoint of step 2 cannot be written" in line and "run the same command to continue" in line
    assert "Traceback" not in err
    run = Run(tmp_path / "run")
    assert not list(run.path.rglob("*temp*")) and not list(run.path.rglob("*partial*")) and not run.checkpoints()
    if goes_on:
        train(tiny_config(run.path, **options))
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
