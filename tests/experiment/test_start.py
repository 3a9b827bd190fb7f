"""Runs that start from the weights of another: what is taken, resume without the source, mistakes."""

import contextlib
import dataclasses
import io
import shutil

import numpy as np
import pytest
import tensorflow as tf
from small_runs import make_run
from tiny_runs import KeepModel, Killed, StopAfter, state_of, tiny_config, tiny_flags

from sagan_tf import networks, read_weights
from sagan_tf import train as train_command
from sagan_tf.config import Config
from sagan_tf.errors import UserError
from sagan_tf.experiment import build
from sagan_tf.experiment.checkpoints import restore
from sagan_tf.experiment.loading import restore_networks
from sagan_tf.experiment.train import train
from sagan_tf.generation.saving import save_generator
from sagan_tf.networks.freezing import frozen_parts, part_of
from sagan_tf.networks.named_weights import weights_by_name
from sagan_tf.runs.folder import Run
from sagan_tf.training import SAGAN
from sagan_tf.training.transfer import Weights

pytestmark = pytest.mark.usefixtures("quick_training")


@pytest.fixture(scope="module")
def source(trained):
    return trained.run


@dataclasses.dataclass(frozen=True)
class Started:
    """A run of one step from the weights of `source`, with frozen blocks, and what it printed."""

    run: Run
    config: Config
    gan: SAGAN
    out: str


@pytest.fixture(scope="module")
def started(tmp_path_factory, source, quick_training):
    path, keep = tmp_path_factory.mktemp("start") / "run", KeepModel()
    frozen = dict(generator__frozen_blocks=1, discriminator__frozen_blocks=1)
    config = tiny_config(path, steps=1, training__start_from=source.path, **frozen)
    with Run.create_or_resume(path, config):
        pass  # the config alone, as of a run that was killed before its first checkpoint
    with contextlib.redirect_stdout(io.StringIO()) as out:
        run = train(config, [keep])
    return Started(run, config, keep.gan, out.getvalue())


@pytest.fixture
def residual_networks(monkeypatch):
    """Configs describe the networks of the builders."""
    for name in ("build_generator", "build_discriminator"):
        monkeypatch.setattr(build, name, getattr(networks, name))


def config_from(config, origin, **changes):
    """The config of a run that starts from another."""
    training = dataclasses.replace(config.training, start_from=str(origin), steps=2, batch_size=2)
    return dataclasses.replace(config, training=training, **changes)


def test_train_starts_from_weights_with_fresh_optimizers(source, started):
    run = started.run
    expected, reached = read_weights(source.path), read_weights(run.path)
    assert expected.networks.keys() == {"generator", "ema_generator", "discriminator"}
    expected.networks["generator"].update(frozen_parts_of_average(expected, started.gan))
    first = restore_networks(run, step=0, discriminator=True)
    taken = Weights.of({
        "generator": first.trained_generator, "ema_generator": first.generator, "discriminator": first.discriminator,
    })  # fmt: skip
    for name, weights in expected.networks.items():
        for key, value in weights.items():
            np.testing.assert_array_equal(taken.networks[name][key], value)
    before, after = (weights.networks["generator"] for weights in (expected, reached))
    assert any((after[key] != value).any() for key, value in before.items())
    text = run.start_from_path.read_text()
    assert text in started.out
    assert text.startswith(f"Started from {source.path}:\n") and "classes taken: disc, ring, square, cross" in text
    gan = build.build_gan(run.config(), _Source)
    assert restore(gan, run.checkpoint_path(0)) is None
    slots = gan.generator_optimizer.variables + gan.discriminator_optimizer.variables
    assert int(gan.step) == 0 and not any(np.any(v) for v in slots if v.name != "learning_rate")


def test_train_starts_a_new_folder_from_weights(source, started, tmp_path, monkeypatch):
    monkeypatch.setattr("sagan_tf.experiment.train.fit", lambda *_: None)
    run = train(dataclasses.replace(started.config, run=str(tmp_path / "run")))
    assert run.start_from_path.read_text() == started.run.start_from_path.read_text()
    arrays = [tf.train.load_checkpoint(each.checkpoint_path(0)) for each in (run, started.run)]
    names = [name for name in arrays[0].get_variable_to_shape_map() if name.startswith(("generator", "discriminator"))]
    assert len(names) > 30 and all(np.array_equal(*(each.get_tensor(name) for each in arrays)) for name in names)


class _Source:
    num_classes = 4


def frozen_parts_of_average(weights, gan):
    average, frozen = weights.networks["ema_generator"], frozen_parts(gan.generator)
    return {key: value for key, value in average.items() if part_of(key) in frozen}


def assert_frozen_parts_rest(gan, weights):
    parts = {"generator": {"block_32", "output_norm", "output_conv"}, "discriminator": {"block_1"}}
    assert all(parts[name] <= frozen_parts(getattr(gan, name)) for name in parts)
    average = frozen_parts_of_average(weights, gan)
    sources = {**weights.networks, "generator": weights.networks["generator"] | average}
    for name in ("generator", "ema_generator", "discriminator"):
        network = getattr(gan, name.removeprefix("ema_"))  # that of the average is not frozen itself
        for key, weight in weights_by_name(getattr(gan, name)).items():
            if key in ("output_dense/bias", "output_dense/u"):  # the hinge loss's gradients cancel; always 1 or -1
                continue
            is_table = key.startswith("block_32_norm") and key.endswith(("gamma", "beta"))
            is_at_rest = part_of(key) in frozen_parts(network) and not is_table
            assert np.array_equal(weight, sources[name][key]) == is_at_rest, (name, key)


def test_frozen_blocks_rest(source, started):
    assert_frozen_parts_rest(started.gan, read_weights(source.path))


@pytest.mark.stress
def test_frozen_blocks_rest_also_in_an_exact_resume_without_the_source(tmp_path, residual_networks):
    origin = make_run(tmp_path / "source", steps=(1,))
    weights, config = read_weights(origin.path), origin.config()
    output = dataclasses.replace(config.output, log_interval=1, checkpoint_interval=1, sample_interval=100)
    changes = dict(
        output=output,
        generator=dataclasses.replace(config.generator, frozen_blocks=1),
        discriminator=dataclasses.replace(config.discriminator, frozen_blocks=1),
        hardware=dataclasses.replace(config.hardware, precision="float32", native_operations=False),
    )
    whole, resumed = KeepModel(), KeepModel()
    train(config_from(config, origin.path, run=str(tmp_path / "whole"), **changes), [whole])
    assert_frozen_parts_rest(whole.gan, weights)
    killed = config_from(config, origin.path, run=str(tmp_path / "killed"), **changes)
    with pytest.raises(Killed):
        train(killed, [StopAfter(2)])
    shutil.rmtree(origin.path)
    train(killed, [resumed])
    for a, b in zip(state_of(whole), state_of(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    assert_frozen_parts_rest(resumed.gan, weights)


def test_train_rejects_another_start_at_resume(started):
    training = dataclasses.replace(started.config.training, start_from="elsewhere")
    with pytest.raises(UserError, match="training.start_from: .* -> elsewhere"):
        train(dataclasses.replace(started.config, training=training))


@pytest.mark.parametrize(
    "flags, message",
    [
        (dict(training__start_from="gone"), "training.start_from: gone: there is no such run folder or .keras file."),
        (dict(training__start_from="hf://a"), "training.start_from: hf://a: write hf://owner/name"),
        (dict(training__start_from="{source}/metrics.jsonl"), "metrics.jsonl: is not a run folder or a .keras file."),
        (dict(training__start_from="{source}/samples"), "samples: not a run folder; config.yaml is missing."),
        (dict(training__start_from="{empty}"), "there is no generator yet"),
        (dict(training__start_from="{source}", data__conditional=False), "both must have classes, or neither."),
        (dict(training__start_from="{source}", generator__channels=4, discriminator__channels=4), "no weights of "),
        (dict(discriminator__frozen_blocks=1), "`discriminator.frozen_blocks` must be 0 without training.start_from"),
        (dict(training__start_from="x", generator__frozen_blocks=4), "`generator.frozen_blocks` must be at most 3"),
    ],
)
def test_train_names_a_start_that_cannot_be_used(tmp_path, source, command_error, flags, message):
    empty = tmp_path / "empty"
    with Run.create_or_resume(empty, tiny_config(empty)):
        pass
    flags = {key: str(value).format(source=source.path, empty=empty) for key, value in flags.items()}
    assert message in command_error(train_command.main, *tiny_flags(tmp_path / "run", **flags))
    assert not (tmp_path / "run").exists()


def test_train_freezes_no_block_that_was_not_taken(tmp_path):
    config = tiny_config(
        tmp_path / "run", training__start_from=tmp_path / "generator.keras", discriminator__frozen_blocks=1
    )
    save_generator(build.build_networks(config, 4)[0], tmp_path / "generator.keras", {"step": 1})
    with pytest.raises(UserError, match="discriminator.frozen_blocks: .*block_1 would stay as drawn"):
        train(config)
    assert not (tmp_path / "run").exists()
