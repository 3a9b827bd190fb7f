"""Training of tiny runs: exact resume, rejected configs."""

import concurrent.futures
import dataclasses
import shutil
import types
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_data import save_picture
from tensorflow.python.framework.config import disable_op_determinism, is_op_determinism_enabled
from tiny_runs import KeepModel, Killed, Poison, StopAfter, state_of, tiny_config, untimed
from training.tiny import make_gan, prefetch_to_last_cpu

from sagan_tf import train as train_command
from sagan_tf.accelerate import compiled
from sagan_tf.config import Config, DataConfig
from sagan_tf.data.sources import open_source
from sagan_tf.errors import UserError
from sagan_tf.evaluation.standing_statistics import set_standing_statistics
from sagan_tf.experiment import precision
from sagan_tf.experiment import train as experiment
from sagan_tf.experiment.loading import restore_networks
from sagan_tf.experiment.train import report_rule, train

pytestmark = pytest.mark.usefixtures("quick_training")


@pytest.fixture
def undone_numerics():
    yield
    tf.config.experimental.enable_tensor_float_32_execution(True)
    disable_op_determinism()


def test_resume_is_exact_with_evaluations_when_killed(tmp_path, trained, undone_numerics, capsys, monkeypatch):
    """The resumed run is a deterministic one with batches copied ahead, as on a GPU: the same on a CPU."""
    prefetch = mock.Mock(wraps=prefetch_to_last_cpu)
    monkeypatch.setattr(experiment, "prefetch_to_device", prefetch)
    config = trained.config(tmp_path / "run", hardware__deterministic=True, hardware__tf32=True)
    resumed = KeepModel()
    with pytest.raises(Killed):
        train(config, [StopAfter(5)])
    run = train(config, [resumed])
    assert prefetch.call_count == 2
    assert is_op_determinism_enabled() and tf.config.experimental.tensor_float_32_execution_enabled()
    assert [(start["tf32"], start["deterministic"]) for start in run.starts()] == [(True, True)] * 2
    assert [(start["tf32"], start["deterministic"]) for start in trained.run.starts()] == [(False, False)]
    assert "XLA: off (hardware.jit_compile: auto)\n" in capsys.readouterr().out
    assert not run.starts()[0]["jit_compile"]
    pairs = list(zip(trained.state, state_of(resumed), strict=True))
    assert len(pairs) > 70
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)
    first, second = (untimed(each) for each in (trained.run, run))
    assert first == second
    assert trained.run.sample_path(4).read_bytes() == run.sample_path(4).read_bytes()
    distances = {line["step"]: line["frechet_distance"] for line in first if "frechet_distance" in line}
    assert list(distances) == [2, 4, 6] and len(set(distances.values())) == 3
    best = min(distances, key=distances.get)
    for each in (trained.run, run):
        found = each.best()
        assert found.pop("protocol")[1:4] == [20, 1, "test"]
        assert found == {"step": best, "metric": "frechet_distance", "value": distances[best]}
        assert restore_networks(each, best=True).step == best
    last = [np.array(weight) for weight in keras.models.load_model(trained.run.generator_path).weights]
    kept = [np.array(weight) for weight in restore_networks(run, best=True).generator.weights]
    assert all(map(np.array_equal, last, kept)) == (best == 6)


def test_resume_is_exact_with_all_state_of_the_penalties_and_of_ada(tmp_path):
    """The kill falls between two executions of two steps, within a window of ADA and between two penalties."""
    options = dict(
        steps=6,
        training__d_steps=3,
        training__accumulation_steps=2,
        training__loss="hinge",
        training__r1_weight=1,
        training__r2_weight=1,
        training__r1_interval=4,
        training__lecam_weight=0.3,
        training__lecam_start_step=2,
        training__augmentation="[]",
        training__ada_target=0.05,
        training__ada_images=500,
        training__ema_start_step=3,
        hardware__steps_per_execution=2,
        output__log_interval=2,
    )
    whole, resumed = KeepModel(), KeepModel()
    one = train(tiny_config(tmp_path / "whole", **options), [whole])
    with pytest.raises(Killed):
        train(tiny_config(tmp_path / "killed", **options), [StopAfter(4)])
    two = train(tiny_config(tmp_path / "killed", **options), [resumed])
    for a, b in zip(state_of(whole), state_of(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    assert untimed(one) == untimed(two) and len(two.starts()) == 2
    assert any(line["ada_p"] for line in untimed(one))
    assert whole.gan.ada_signs[1] and np.all(np.array(whole.gan.lecam_means))


def test_average_gets_statistics_of_its_own_and_nothing_else_changes(tmp_path):
    """Those of step 4 count, whatever was averaged and recomputed before."""
    options = dict(training__ema_decay=0.9)
    plain, own = KeepModel(), KeepModel()
    train(tiny_config(tmp_path / "plain", **options), [plain])
    train(tiny_config(tmp_path / "own", **options, training__ema_statistics_interval=2), [own])
    averaged = [weight.numpy() for weight in plain.gan.ema_generator.weights]
    set_standing_statistics(plain.gan.ema_generator, plain.gan.num_classes, batches=32)
    for a, b in zip(state_of(plain), state_of(own), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    changed = [not np.allclose(a, b.numpy()) for a, b in zip(averaged, own.gan.ema_generator.weights)]
    assert any(changed) and not all(changed)


def test_train_does_nothing_when_all_steps_are_done(tmp_path, capsys, trained, undone_numerics, monkeypatch):
    """The precision stays that of the run, also where `auto` would give another for a new one."""
    monkeypatch.setattr(precision, "native_precision", lambda _: ("mixed_bfloat16", "a new machine"))
    run = trained.copy(tmp_path / "run")
    tf.config.experimental.enable_tensor_float_32_execution(True)
    before = run.metrics_path.read_bytes()
    train(trained.config(run.path, hardware__precision="auto"))
    out = capsys.readouterr().out
    assert "All 6 steps are done" in out and "Precision: float32 (hardware.precision: auto; as the run so far)\n" in out
    assert run.config() == trained.config(run.path) and run.starts()[-1]["precision"] == "float32"
    assert not tf.config.experimental.tensor_float_32_execution_enabled()  # the config's default
    assert run.metrics_path.read_bytes() == before


def test_train_rejects_config_that_differs_from_run(tmp_path, trained):
    run = trained.copy(tmp_path / "run")
    with pytest.raises(UserError, match="training.loss"):
        train(trained.config(run.path, training__loss="wasserstein"))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_resume_rejects_steps_per_execution_that_does_not_divide_the_step(tmp_path):
    run = train(tiny_config(tmp_path, steps=1))
    config = tiny_config(tmp_path, steps=4, hardware__steps_per_execution=2, output__log_interval=2)
    with pytest.raises(UserError, match="hardware.steps_per_execution: must divide 1, the step .* Got 2"):
        train(config)
    assert run.checkpoint_steps() == [1] and run.config().hardware.steps_per_execution == 1


def test_resume_rejects_fewer_steps_than_were_made_and_notes_another_end(tmp_path, trained, capsys):
    run = trained.copy(tmp_path / "run")
    with pytest.raises(UserError, match="training.steps: must be at least 6, which the run has made. Got 2."):
        train(trained.config(run.path, training__steps=2))
    assert run.config().training.steps == 6
    config = tiny_config(tmp_path / "decaying", steps=1, generator_optimizer__schedule="linear")
    train(config)
    train(tiny_config(tmp_path / "decaying", steps=2, generator_optimizer__schedule="linear"))
    assert "learning rates that fell until step 1 fall until step 2 now: they jump" in capsys.readouterr().out


def test_resume_rejects_changed_data_and_leaves_run_as_it_is(tmp_path, capsys):
    for label, name in enumerate(("cat", "dog", "eel")):
        for i in range(4):
            save_picture(tmp_path / "data" / name / f"{i}.png", np.full((32, 32, 3), 80 * label + i, np.uint8))
    options = dict(data__name=tmp_path / "data", generator__attention_sizes="[]", discriminator__attention_sizes="[]")
    options["output__checkpoint_interval"] = 1
    run = train(tiny_config(tmp_path / "run", steps=1, **options))
    before, sheet = contents(run.path), run.contact_sheet_path.read_bytes()
    (tmp_path / "data" / "cat").rename(tmp_path / "data" / "zebra")
    config = tiny_config(tmp_path / "run", steps=2, **options)
    with pytest.raises(UserError, match="not those of the run .class `cat` -> `zebra`.*--allow_data_change"):
        train(config)
    assert contents(run.path) == before and run.checkpoint_steps() == [1]
    train(config, allow_data_change=True)
    assert run.checkpoint_steps()[-1] == 2 and run.class_names() == ["dog", "eel", "zebra"]
    assert run.contact_sheet_path.read_bytes() != sheet  # which showed the old data, in the report too
    capsys.readouterr()
    train(config)  # the new data are those of the run now
    assert "Warning" not in capsys.readouterr().err.replace("WARNING", "")
    shutil.rmtree(tmp_path / "data" / "zebra")
    with pytest.raises(UserError, match="the networks have 3 classes, and the data, .*, 2 classes"):
        train(config, allow_data_change=True)


def test_train_refuses_a_run_folder_among_the_classes_of_the_data(tmp_path):
    """Its samples would be images nested too deep, from the second start on."""
    for i in range(4):
        save_picture(tmp_path / "data" / f"{i}.png", np.full((32, 32, 3), i, np.uint8))
        save_picture(tmp_path / "split" / "train" / f"{i}.png", np.full((32, 32, 3), i, np.uint8))
    for data, place in (("data", "data/run"), ("split", "split/run"), ("split", "split/train/run")):
        with pytest.raises(UserError, match="run: is in the folder of the data, .*, which the run could not be resume"):
            train(tiny_config(tmp_path / place, steps=1, data__name=tmp_path / data))
        assert not (tmp_path / place).exists()


def test_train_works_outside_of_the_main_thread(tmp_path):
    """Signals can only be handled in the main thread: it failed after the folder was made."""
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        run = threads.submit(train, tiny_config(tmp_path / "run", steps=1)).result()
    assert run.checkpoint_steps() == [1]


def test_divergence_stops_training_before_checkpoint_of_last_step(tmp_path):
    between_lines = dict(steps=3, output__log_interval=4, output__checkpoint_interval=4)
    with pytest.raises(UserError, match="training diverged.*step 3.*No checkpoint exists yet"):
        train(tiny_config(tmp_path / "run", **between_lines), [Poison(2)])
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_train_rejects_jit_compile_on_several_devices(tmp_path, monkeypatch):
    # Two GPUs that `auto` would find; the config does not name them.
    several = types.SimpleNamespace(num_replicas_in_sync=2)
    monkeypatch.setattr(experiment, "make_strategy", lambda *_: several)
    with pytest.raises(UserError, match="hardware.jit_compile: .* all 2 replicas .batch_statistics global, not local"):
        train(tiny_config(tmp_path / "run", hardware__jit_compile="true"))


def test_train_rejects_native_operations_with_gpu_or_without_compiler(tmp_path, monkeypatch):
    config = tiny_config(tmp_path / "run", hardware__native_operations="true", hardware__precision="mixed_bfloat16")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    compiled.load.cache_clear()
    with pytest.raises(UserError, match="needs a C.. compiler"):
        train(config)
    with monkeypatch.context() as patch:
        patch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["a GPU"])
        patch.setattr(experiment, "make_strategy", lambda *_: types.SimpleNamespace(num_replicas_in_sync=1))
        with pytest.raises(UserError, match="works on CPUs only, and this machine has a GPU"):
            train(config)
        patch.setattr(experiment, "make_strategy", lambda *_: types.SimpleNamespace(num_replicas_in_sync=2))
        with pytest.raises(UserError, match="works on one device only, and this run has 2"):
            train(config)
    config = tiny_config(tmp_path / "run", hardware__native_operations="true", hardware__precision="auto")
    monkeypatch.setattr(compiled, "load", lambda: None)
    monkeypatch.setattr(precision, "native_precision", lambda _: ("float32", "an old machine"))
    with pytest.raises(UserError, match="`hardware.native_operations` must be false in float32"):
        train(config)
    assert list(tmp_path.iterdir()) == []


def test_train_command_prints_one_line_for_bad_input(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for arguments, wanted in (
        (["--data.name", "cifar11"], "cifar10"),
        (["--data.name", str(tmp_path / "nowhere") + "/"], "does not exist"),
        (["--data.name", str(tmp_path / "empty")], "contains no images"),
        (["--data.name", "twins", "--data.split", "validation"], "no split"),
    ):
        with pytest.raises(SystemExit) as caught:
            train_command.main(["--run", str(tmp_path / "run"), *arguments])
        assert caught.value.code == 2
        err = capsys.readouterr().err
        message = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(message) == 1 and wanted in message[0]
        assert "Traceback" not in err
        assert not (tmp_path / "run").exists()


def test_default_config_matches_the_paper():
    config = Config()
    assert (config.generator_optimizer.learning_rate, config.discriminator_optimizer.learning_rate) == (1e-4, 4e-4)
    assert dataclasses.asdict(config.generator_optimizer)["beta_2"] == 0.9


def test_report_rule_leaves_out_measures_of_shapes_that_no_image_has(capsys):
    """The images of an untrained generator are flat."""
    report_rule(make_gan(), open_source(DataConfig(name="twins", image_size=32)), num_images=8)
    line = capsys.readouterr().out
    assert "valid 0.000" in line and "score 0.000" in line and "nan" not in line
