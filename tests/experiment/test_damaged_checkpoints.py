"""A damaged checkpoint is reported and the one before it used; training repeats the lost steps exactly."""

import numpy as np
import pytest
from tiny_runs import KeepModel, state_of, untimed

from sagan_tf.errors import UserError
from sagan_tf.experiment.train import train

pytestmark = pytest.mark.usefixtures("quick_training")


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))


def removed(path):
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "file"),
    [
        pytest.param(truncated, "data-00000-of-00001", marks=pytest.mark.stress),
        pytest.param(removed, "data-00000-of-00001", marks=pytest.mark.stress),
        (flipped, "index"),
    ],
)
def test_resume_uses_earlier_checkpoint_when_newest_is_damaged(trained, tmp_path, capsys, damage, file):
    run = trained.copy(tmp_path / "run")
    damage(run.checkpoints_path / f"ckpt-6.{file}")
    keep = KeepModel()
    train(trained.config(run.path), [keep])
    out = capsys.readouterr().out
    assert "ckpt-6: cannot be restored; trying the one before it: " in out
    assert "Resuming from step 4" in out
    for a, b in zip(state_of(keep), trained.state, strict=True):
        np.testing.assert_array_equal(a, b)
    assert untimed(run) == untimed(trained.run)


@pytest.mark.stress
def test_resume_works_when_checkpoint_list_is_damaged(trained, tmp_path, capsys):
    run = trained.copy(tmp_path / "run")
    truncated(run.checkpoints_path / "checkpoint")
    train(trained.config(run.path, steps=8))
    assert "Resuming from step 6" in capsys.readouterr().out
    # The manager counts old ones too: two are kept. Otherwise every restart would leave some forever.
    assert [path.rpartition("-")[2] for path in run.checkpoints()] == ["8", "6"]


def test_resume_deletes_nothing_when_all_checkpoints_are_damaged(trained, tmp_path):
    run = trained.copy(tmp_path / "run")
    for path in run.checkpoints_path.glob("ckpt-*.index"):
        truncated(path)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="neither it nor any checkpoint before it can be restored"):
        train(trained.config(run.path, steps=8))
    changed = [path.name for path, content in before.items() if path.read_bytes() != content]
    assert set(changed) <= {"environment.json", "config.yaml"}  # the start of the run and its number of steps
