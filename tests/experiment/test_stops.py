"""Runs stopped by a signal or killed resume exactly."""

import functools
import signal
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_runs import KeepModel, Killed, state_of, tiny_config, tiny_flags, untimed
from toy_networks import toy_generator

from sagan_tf import train as train_command
from sagan_tf.errors import UserError, one_line_errors
from sagan_tf.evaluation.evaluator import Evaluator
from sagan_tf.experiment import build
from sagan_tf.experiment.train import train
from sagan_tf.runs.folder import Run
from sagan_tf.runs.provenance import describe_training

pytestmark = pytest.mark.usefixtures("quick_training")


@pytest.mark.stress
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_resume_is_exact_when_stopped_within_metrics_line_and_evaluation(
    precision, features, tmp_path, monkeypatch, capsys
):
    options = dict(
        steps=6,
        hardware__precision=precision,
        output__log_interval=3,
        output__checkpoint_interval=3,
        evaluation__interval=2,
        evaluation__num_samples=20,
        evaluation__split="test",
        evaluation__features=features,
    )
    whole, broken = KeepModel(), KeepModel()
    one = train(tiny_config(tmp_path / "whole", **options), [whole])
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    collect = Evaluator.collect_samples
    for step, number in ((2, signal.SIGTERM), (6, signal.SIGINT)):

        def collect_and_stop(self, sampler, samples, about, *arguments):
            if about["step"] == step:
                signal.raise_signal(number)
            return collect(self, sampler, samples, about, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Evaluator, "collect_samples", collect_and_stop)
            two = train(tiny_config(tmp_path / "broken", **options), [broken])
        out = capsys.readouterr().out
        assert f"Stopped by {number.name} at step {step} of 6, saved. The same command continues." in out
        assert f"The evaluation of step {step} is left to the next start" in out
        assert two.checkpoints()[0].endswith(f"-{step}") and not list(two.evaluation_path.glob("*collecting"))
    train(tiny_config(tmp_path / "broken", **options))
    assert "All 6 steps are done" in capsys.readouterr().out

    assert {number: signal.getsignal(number) for number in before} == before
    for a, b in zip(state_of(whole), state_of(broken), strict=True):
        np.testing.assert_array_equal(a, b)
    lines, expected = untimed(two), untimed(one)
    assert [line["step"] for line in lines] == [2, 3, 4, 6, 6]
    # The means of the interrupted metrics line are summed in another order.
    means = {"d_loss", "g_loss", "real_logit", "fake_logit", "d_accuracy", "d_gradient_norm", "g_gradient_norm",
             "d_skipped", "g_skipped"}  # fmt: skip
    for line, other in zip(lines, expected, strict=True):
        assert line.keys() == other.keys()
        different = {name for name in line if line[name] != other[name]}
        assert not different or (line["step"] == 3 and different <= means)
        assert all(line[name] == pytest.approx(other[name], rel=1e-5) for name in different)
    assert two.best() == one.best() and two.sample_path(6).read_bytes() == one.sample_path(6).read_bytes()


class KilledAtTheEnd(keras.callbacks.Callback):
    def on_train_end(self, logs=None):
        raise Killed


@pytest.mark.stress
def test_resume_completes_run_when_killed_after_last_step(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "build_generator", toy_generator)  # with attention
    options = dict(steps=3, output__checkpoint_interval=1)  # samples every two steps, and at the end
    with pytest.raises(Killed):
        train(tiny_config(tmp_path / "run", **options), [KilledAtTheEnd()])
    run = train(tiny_config(tmp_path / "run", **options))
    assert [path.rpartition("-")[2] for path in run.checkpoints()][0] == "3"
    assert run.sample_path(3).is_file() and run.attention_picture_path(3).is_file()
    assert '"step":3,"steps":3' in run.report_path.read_text(encoding="utf-8")


@pytest.mark.stress
def test_resume_updates_generator_when_killed_before_its_checkpoint(tmp_path, monkeypatch):
    save = tf.train.CheckpointManager.save

    def killed(manager, checkpoint_number):
        if checkpoint_number == 2:
            raise Killed
        return save(manager, checkpoint_number=checkpoint_number)

    with monkeypatch.context() as patch:
        patch.setattr(tf.train.CheckpointManager, "save", killed)
        with pytest.raises(Killed):
            train(tiny_config(tmp_path / "run", steps=2, output__checkpoint_interval=1))
    killed_run = Run(tmp_path / "run")
    assert killed_run.checkpoint_steps() == [1] and describe_training(killed_run)["step"] == 2
    model = KeepModel()
    run = train(tiny_config(tmp_path / "run", steps=2, output__checkpoint_interval=1), [model])
    found = keras.models.load_model(run.generator_path).get_weights()
    expected = model.gan.ema_generator.get_weights()
    assert len(found) > 15 and all(map(np.array_equal, found, expected))


@pytest.mark.parametrize(
    ("number", "code", "by"), [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "the keyboard")]
)
def test_signal_outside_of_training_prints_one_line(number, code, by, capsys, request):
    # As in a process started by a shell; pytest's workers ignore Ctrl-C.
    request.addfinalizer(functools.partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    with pytest.raises(SystemExit) as ended, one_line_errors("Begin again."):
        signal.raise_signal(number)
        pytest.fail("the signal did nothing")
    assert ended.value.code == code
    assert capsys.readouterr().err == f"\nstopped by {by}. Begin again.\n"
    assert {one: signal.getsignal(one) for one in before} == before


@pytest.mark.parametrize(("number", "code"), [
    (signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.stress),
])  # fmt: skip
def test_train_command_ends_with_code_of_signal(tmp_path, number, code, monkeypatch, capsys):
    callback = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: signal.raise_signal(number))
    monkeypatch.setattr("sagan_tf.experiment.train.train", lambda config, **_: train(config, [callback]))
    with pytest.raises(SystemExit) as ended:
        train_command.main(tiny_flags(tmp_path / "run", 3))
    assert ended.value.code == code
    assert f"Stopped by {number.name} at step 1 of 3, saved." in capsys.readouterr().out


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_train_command_turns_name_of_signal_into_code(name, code, tmp_path, monkeypatch):
    run = types.SimpleNamespace(path=tmp_path, stopped_by=name)
    monkeypatch.setattr("sagan_tf.experiment.train.train", lambda config, **_: run)
    with pytest.raises(SystemExit) as ended:
        train_command.main(tiny_flags(tmp_path / "run", 3))
    assert ended.value.code == code


@pytest.mark.stress
def test_second_signal_leaves_training_without_saving(tmp_path, monkeypatch, capsys):
    def press_twice(batch, logs):
        if batch == 1:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=press_twice)
    monkeypatch.setattr("sagan_tf.experiment.train.train", lambda config, **options: train(config, [callback]))
    with pytest.raises(SystemExit) as ended:
        train_command.main(tiny_flags(tmp_path / "run", 4, output__checkpoint_interval=1))
    assert ended.value.code == 130 and Run(tmp_path / "run").checkpoint_steps() == [1]
    assert "\nstopped by the keyboard. Nothing that was saved is lost" in capsys.readouterr().err


def test_closed_output_ends_command_with_one_line():
    script = "from sagan_tf.errors import one_line_errors\nwith one_line_errors('Resume.'):\n while True: print('line')"
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read().splitlines()[-1] == "error: the program that reads the output has ended. Resume."
    assert process.returncode == 2


@pytest.mark.parametrize("resumes", [False, pytest.param(True, marks=pytest.mark.stress)])
def test_train_ends_when_run_folder_is_renamed(tmp_path, resumes):
    def rename(batch, logs):
        if batch == 2:
            (tmp_path / "run").rename(tmp_path / "moved")

    callback = keras.callbacks.LambdaCallback(on_train_batch_begin=rename)
    with pytest.raises(UserError, match="run: the run folder was removed or renamed during training, at step 3"):
        train(tiny_config(tmp_path / "run", steps=4, output__checkpoint_interval=1), [callback])
    run = Run(tmp_path / "moved")
    assert not (tmp_path / "run").exists() and run.checkpoint_steps() == [1, 2]
    assert [line["step"] for line in run.read_metrics()] == [1, 2]
    if resumes:
        train(tiny_config(run.path, steps=4, output__checkpoint_interval=1))
        assert [line["step"] for line in run.read_metrics()] == [1, 2, 3, 4]
