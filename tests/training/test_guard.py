"""What goes wrong is seen, named once, and handled as the config says."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import small_embedded_data, tiny_config  # noqa: F401
from training.tiny import make_gan

from sagan_tf.errors import UserError
from sagan_tf.experiment.train import train
from sagan_tf.training.guard import COLLAPSED_SHARE, GROUPS, SAMPLES, Guard, TrainingFailure

GOOD = {"d_accuracy": 0.8, "d_loss": 1.2, "g_loss": 0.5}
LABEL = np.repeat(np.arange(GROUPS) % 3, SAMPLES // GROUPS).astype("int32")


def draw_latent(scale=1.0):
    return scale * np.random.default_rng(0).standard_normal((SAMPLES, 128), np.float32)


class Painter:
    """In place of a SAGAN: its pictures are what they are set to be."""

    def __init__(self):
        self.images, self.weights = np.zeros((SAMPLES, 32, 32, 3), np.float32), []

    def generator(self, inputs, training):
        import tensorflow as tf

        return tf.numpy_function(lambda: self.images, [], tf.float32)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0, 1))
def test_diversity_is_the_distance_of_pairs_of_one_label(seed, scale):
    painter = Painter()
    rng = np.random.default_rng(seed)
    painter.images = (scale * rng.uniform(-1, 1, painter.images.shape)).astype("float32")
    small = np.float64(painter.images).reshape(SAMPLES, 8, 4, 8, 4, 3).mean((2, 4))
    groups = small.reshape(GROUPS, -1, 8, 8, 3)
    squares = [np.mean((a - b) ** 2) for group in groups for i, a in enumerate(group) for b in group[:i]]
    got = Guard(draw_latent(), LABEL).diversity(painter)
    assert got == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-6, abs=1e-9)


def test_collapse_is_named_once_and_again_after_it_was_over():
    said, painter = [], Painter()
    guard = Guard(draw_latent(), LABEL, warn=said.append)
    varied = np.random.default_rng(0).uniform(-1, 1, painter.images.shape).astype("float32")
    for step, share in enumerate((1, 0.5, 0.1, 0.1, 1, 0.1)):
        painter.images = varied * share
        assert guard.check(painter, step, GOOD)["sample_diversity"] > 0
    assert [line.partition(":")[0] for line in said] == ["Warning at step 2", "Warning at step 5"]
    assert all("mode collapse" in line and "generator_optimizer.learning_rate" in line for line in said)


def test_real_generator_that_ignores_its_latent_has_collapsed():
    gan = make_gan()
    said = []
    guard = Guard(draw_latent(), LABEL, warn=said.append)
    before = guard.check(gan, 1, GOOD)["sample_diversity"]
    dense = next(layer for layer in gan.generator.layers if "dense" in layer.name or "project" in layer.name)
    kernel = dense.trainable_variables[0]
    kernel.assign(0 * kernel)
    after = guard.check(gan, 2, GOOD)["sample_diversity"]
    assert after < COLLAPSED_SHARE * before and len(said) == 1


@pytest.mark.parametrize(
    ("means", "words"),
    [
        ({"d_accuracy": 1.0, "d_loss": 0.001}, "tells all real and generated images apart"),
        ({"d_accuracy": 0.99, "d_loss": 0.001}, None),
        ({"d_accuracy": 1.0, "d_loss": 0.3}, None),
        ({"d_accuracy": 1.0, "d_loss": -30.0}, None),
    ],
)
def test_saturated_discriminator_is_named(means, words):
    said = []
    Guard(draw_latent(), LABEL, warn=said.append).check(Painter(), 5, {**GOOD, **means})
    assert [words in line for line in said] == ([] if words is None else [True])
    if words:
        with pytest.raises(TrainingFailure, match=words) as caught:
            Guard(draw_latent(), LABEL, stop_on_collapse=True).check(Painter(), 5, {**GOOD, **means})
        assert (caught.value.kind, caught.value.step) == ("collapse", 5)


class Poison(keras.callbacks.Callback):
    """Makes a weight not finite at the given steps, each once."""

    def __init__(self, *steps):
        super().__init__()
        self.steps, self.rates = list(steps), []

    def on_train_begin(self, logs=None):
        self.rates.append(float(self.model.generator_optimizer.learning_rate))

    def on_train_batch_begin(self, batch, logs=None):
        step = int(self.model.step.numpy())
        if step in self.steps:
            self.steps.remove(step)
            kernel = self.model.generator.trainable_variables[0]
            kernel.assign(kernel * np.nan)


def test_recovery_goes_back_and_on_with_a_lower_rate(tmp_path, capsys):
    flags = dict(guard__on_divergence="recover", guard__rate_factor=0.25, generator_optimizer__schedule="constant")
    poison = Poison(3)
    run = train(tiny_config(tmp_path / "run", steps=4, **flags), [poison])
    out = capsys.readouterr().out
    # Seen before the line and the checkpoint of step 4.
    assert "Recovery 1: training diverged" in out and "Resuming from step 2" in out
    np.testing.assert_allclose(poison.rates, poison.rates[0] * np.array([1, 1 / 4]), rtol=1e-6)
    rates = {line["step"]: line["generator_learning_rate"] / poison.rates[0] for line in run.read_metrics()}
    assert list(rates) == [1, 2, 3, 4]
    np.testing.assert_allclose(list(rates.values()), [1, 1, 1 / 4, 1 / 4], rtol=1e-6)
    assert [(one["kind"], one["step"]) for one in run.recoveries()] == [("divergence", 4)]


@pytest.mark.stress
def test_two_recoveries_and_another_process_after_them(tmp_path, capsys):
    flags = dict(guard__on_divergence="recover", guard__rate_factor=0.25, generator_optimizer__schedule="constant")
    poison = Poison(3, 5)
    run = train(tiny_config(tmp_path / "run", steps=6, **flags), [poison])
    out = capsys.readouterr().out
    assert "Recovery 1: training diverged" in out and "Recovery 2: " in out
    # Seen before the line and the checkpoint of steps 4 and 6, so it went back to 2 and 4.
    assert "Resuming from step 2" in out and "Going on from step 4" in out
    np.testing.assert_allclose(poison.rates, poison.rates[0] * np.array([1, 1 / 4, 1 / 16]), rtol=1e-6)
    lines = run.read_metrics()
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    rates = [line["generator_learning_rate"] for line in lines]
    np.testing.assert_allclose(rates, rates[0] * np.array([1, 1, 1 / 4, 1 / 4, 1 / 16, 1 / 16]), rtol=1e-6)
    assert [(one["kind"], one["step"]) for one in run.recoveries()] == [("divergence", 4), ("divergence", 6)]
    # Another process goes on with the lower rates.
    later = Poison()
    train(tiny_config(run.path, steps=8, **flags), [later])
    np.testing.assert_allclose(later.rates, poison.rates[0] / 16, rtol=1e-6)


@pytest.mark.stress
def test_recoveries_have_an_end(tmp_path):
    flags = dict(guard__on_divergence="recover", guard__max_recoveries=1)
    with pytest.raises(UserError, match="step 4.* 1 recoveries did not help. The last good checkpoint is in"):
        train(tiny_config(tmp_path / "run", **flags), [Poison(3, 3)])
