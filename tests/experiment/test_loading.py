"""Networks are restored at the requested step."""

import itertools
import shutil

import numpy as np
import pytest
from keras import ops
from small_runs import KINDS, make_run

from sagan_tf.errors import UserError
from sagan_tf.experiment import loading
from sagan_tf.experiment.loading import class_names, restore_networks
from sagan_tf.generation.saving import save_generator
from sagan_tf.runs.folder import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy_networks):
    return make_run(tmp_path_factory.mktemp("run") / "run", steps=(5, 40, 300))


def times(run):
    return {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}


def weights(model):
    return [ops.convert_to_numpy(weight) for weight in model.weights]


@pytest.fixture(scope="module")
def newest(run):
    return restore_networks(run, discriminator=True)


@pytest.fixture(scope="module")
def middle(run):
    """Networks of step 40, and the times of all files before and after."""
    before = times(run)
    return restore_networks(run, 40, discriminator=True), before, times(run)


def test_restore_networks_reads_newest_checkpoint_by_default(run, newest):
    alone = restore_networks(run)
    assert alone.step == newest.step == 300 and alone.discriminator is None and newest.num_classes == len(KINDS)
    inputs = [ops.ones((2, 12)), ops.array([0, 3])]
    np.testing.assert_array_equal(alone.generator(inputs), newest.generator(inputs))
    assert len(alone.generator.trainable_weights) == len(newest.generator.trainable_weights) > 10


def test_restore_networks_reads_the_requested_step_and_leaves_run_folder_unchanged(run, newest, middle):
    middle, before, after = middle
    assert run.checkpoint_steps() == [5, 40, 300] and middle.step == 40 and before == after
    for part in ("generator", "discriminator"):
        pairs = zip(weights(getattr(middle, part)), weights(getattr(newest, part)))
        assert sum((a != b).any() for a, b in pairs) > 10


def test_restore_networks_uses_next_checkpoint_when_newest_was_removed(run, monkeypatch):
    listed = iter([[7], [5, 40, 300], [5, 40, 300]])
    monkeypatch.setattr(Run, "checkpoint_steps", lambda run: next(listed))
    assert restore_networks(run, discriminator=True).step == 300


@pytest.mark.parametrize("best", [False, True])
def test_restore_networks_returns_step_and_weights_of_one_file_while_training_saves(tmp_path, monkeypatch, run, best):
    busy = make_run(tmp_path / "busy", steps=(5,), seed=1)
    path, read, saved = busy.generator_path, loading.read_generator, iter([7])
    if best:
        path = path.rename(busy.best_generator_path)
    model, other = read(path), read(run.generator_path)

    def save(step, model):
        save_generator(model, path, {"step": step, "metric": "fid", "value": 1.0, "protocol": []})

    def slow(path):
        result = read(path)
        for step in saved:
            save(step, other)
        return result

    save(5, model)
    if best:
        busy.generator_path.touch()
    monkeypatch.setattr(loading, "read_generator", slow)
    networks = restore_networks(busy, best=best)
    assert networks.step == 7
    for got, expected in zip(weights(networks.generator), weights(other), strict=True):
        np.testing.assert_array_equal(got, expected)

    saved = itertools.count(8)
    monkeypatch.setattr(loading, "read_generator", lambda path: save(next(saved), other) or other)
    with pytest.raises(UserError, match="generator.keras: another process replaces the file faster than"):
        restore_networks(busy, best=best)


def test_restore_networks_rejects_checkpoint_of_other_networks(run, tmp_path):
    other = make_run(tmp_path / "other", steps=(5,), attention_sizes=())
    for path in other.checkpoints_path.glob("ckpt-5.*"):
        path.write_bytes((run.checkpoints_path / path.name).read_bytes())
    other.config_path.write_text(other.config_path.read_text().replace("latent_dim: 12", "latent_dim: 13"))
    with pytest.raises(UserError, match="cannot be restored into the networks of its config"):
        restore_networks(other, 5)
    for path in other.checkpoints_path.glob("ckpt-5.*"):
        path.unlink()
    with pytest.raises(UserError, match="there is no checkpoint, which alone holds the discriminator"):
        restore_networks(other, discriminator=True)


def test_restore_networks_takes_the_checkpoint_before_a_damaged_one(run, tmp_path, capsys):
    """As training does when it resumes."""
    copy = Run.open(shutil.copytree(run.path, tmp_path / "run"))
    for step in (300, 40):
        index = copy.checkpoints_path / f"ckpt-{step}.index"
        index.write_bytes(index.read_bytes()[:40])
    assert restore_networks(copy, discriminator=True).step == 5
    err = capsys.readouterr().err
    assert err.count("; trying the one before it: ") == 2 and "ckpt-300: " in err and "ckpt-40: " in err
    with pytest.raises(UserError, match="ckpt-300: cannot be restored"):
        restore_networks(copy, 300)
    index = copy.checkpoints_path / "ckpt-5.index"
    index.write_bytes(index.read_bytes()[:40])
    with pytest.raises(UserError, match="ckpt-300: cannot be restored"):
        restore_networks(copy, discriminator=True)


def test_restore_networks_names_a_path_that_tensorflow_takes_for_a_pattern(run, tmp_path):
    """As of a run that was moved: TensorFlow finds no file there, and its error does not say why."""
    copy = Run.open(shutil.copytree(run.path, tmp_path / "run [1]"))
    assert restore_networks(copy).step == 300  # from generator.keras
    with pytest.raises(UserError, match="ckpt-40: .* takes `.` for a pattern. Rename the folder of the run"):
        restore_networks(copy, 40)


def test_class_names_come_from_run_or_are_numbers(tmp_path, toy_networks):
    run = make_run(tmp_path / "run", steps=(), data="cifar10")
    assert class_names(run, 4) == KINDS and class_names(run, None) is None
    assert class_names(run, 3) == ("0", "1", "2")  # names of another data set
    run.class_names_path.unlink()
    assert class_names(run, 4) == ("0", "1", "2", "3")
