"""Recovery returns to the last good checkpoint, with lower learning rates."""

import numpy as np
import pytest
from tiny_runs import Poison, tiny_config

from sagan_tf.config import GuardConfig
from sagan_tf.errors import UserError
from sagan_tf.experiment.divergence import prepare_recovery
from sagan_tf.experiment.train import train
from sagan_tf.runs.folder import Run
from sagan_tf.training.guard import TrainingFailure

pytestmark = pytest.mark.usefixtures("quick_training")


def test_recovery_returns_to_checkpoint_with_lower_rate_until_it_does_not_help(tmp_path, capsys):
    flags = dict(guard__on_divergence="recover", guard__rate_factor=0.25, guard__max_recoveries=1,
                 generator_optimizer__schedule="constant", output__sample_interval=100)  # fmt: skip
    poison = Poison(3, 5)
    with pytest.raises(UserError, match="training diverged.*step 6.* 1 recoveries did not help. The last good check"):
        train(tiny_config(tmp_path / "run", steps=6, **flags), [poison])
    run, out = Run(tmp_path / "run"), capsys.readouterr().out
    # Detected before the metrics line and the checkpoint of steps 4 and 6.
    assert "Recovery 1: training diverged" in out and "Resuming from step 2" in out
    assert run.checkpoint_steps() == [2, 4]
    np.testing.assert_allclose(poison.rates, poison.rates[0] * np.array([1, 1 / 4]), rtol=1e-6)
    rates = {line["step"]: line["generator_learning_rate"] / poison.rates[0] for line in run.read_metrics()}
    assert list(rates) == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(list(rates.values()), [1, 1, 1 / 4, 1 / 4, 1 / 4], rtol=1e-6)
    assert [(recovery["kind"], recovery["step"]) for recovery in run.recoveries()] == [("divergence", 4)]


def test_recovery_is_counted_once_by_all_workers(tmp_path):
    """Another worker read the record that the chief had just written, and stopped at the last recovery allowed."""
    run, failure = Run(tmp_path), TrainingFailure("divergence", 5, "training diverged.")
    run.checkpoints_path.mkdir()
    options = GuardConfig(on_divergence="recover", max_recoveries=1)
    for is_chief in (True, False):
        prepare_recovery(options, run, failure, 0, is_chief)
    assert len(run.recoveries()) == 1
    with pytest.raises(UserError, match="1 recoveries did not help"):
        prepare_recovery(options, run, failure, 1, True)
    with pytest.raises(UserError, match="guard.max_recoveries, 0, allows no recovery"):
        prepare_recovery(GuardConfig(on_divergence="recover", max_recoveries=0), run, failure, 0, True)


@pytest.mark.stress
def test_recovery_rates_persist_when_process_restarts(tmp_path, capsys):
    flags = dict(guard__on_divergence="recover", guard__rate_factor=0.25, generator_optimizer__schedule="constant")
    poison = Poison(3, 5)
    run = train(tiny_config(tmp_path / "run", steps=6, **flags), [poison])
    out = capsys.readouterr().out
    assert "Recovery 1: training diverged" in out and "Recovery 2: " in out
    # Detected before the line and the checkpoint of steps 4 and 6, so recovery returned to 2 and 4.
    assert "Resuming from step 2" in out and "Resuming from step 4" in out
    np.testing.assert_allclose(poison.rates, poison.rates[0] * np.array([1, 1 / 4, 1 / 16]), rtol=1e-6)
    lines = run.read_metrics()
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    rates = [line["generator_learning_rate"] for line in lines]
    np.testing.assert_allclose(rates, rates[0] * np.array([1, 1, 1 / 4, 1 / 4, 1 / 16, 1 / 16]), rtol=1e-6)
    failures = [(recovery["kind"], recovery["step"]) for recovery in run.recoveries()]
    assert failures == [("divergence", 4), ("divergence", 6)]
    # Another process continues with the lower rates.
    later = Poison()
    train(tiny_config(run.path, steps=8, **flags), [later])
    np.testing.assert_allclose(later.rates, poison.rates[0] / 16, rtol=1e-6)
