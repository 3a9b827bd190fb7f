"""The guard detects divergence, saturation and collapse."""

import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_networks import toy_generator
from training.tiny import make_gan

from sagan_tf.generation.sampler import Sampler
from sagan_tf.training import SAGAN, losses
from sagan_tf.training.guard import (
    COLLAPSED_SHARE,
    GROUPS,
    GUESSING_LINES,
    SAMPLES,
    FailureSigns,
    Guard,
    TrainingFailure,
)

GOOD = {"d_accuracy": 0.8, "d_loss": 1.2, "g_loss": 0.5}
PLAIN = {"weights": [], "augmentation": (), "ada_target": None}
WITHOUT_WEIGHTS = SimpleNamespace(**PLAIN, adversarial_loss=losses.get("hinge"))
VARIED = np.random.default_rng(0).uniform(-1, 1, (SAMPLES, 32, 48, 3)).astype("float32")


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), scale=st.floats(0, 1))
def test_guard_diversity_is_rms_distance_of_pairs_of_one_label(seed, scale):
    images = (scale * np.random.default_rng(seed).uniform(-1, 1, VARIED.shape)).astype("float32")
    small = np.float64(images).reshape(SAMPLES, 8, 4, 8, 6, 3).mean((2, 4))
    groups = small.reshape(GROUPS, -1, 8, 8, 3)
    squares = [np.mean((a - b) ** 2) for group in groups for i, a in enumerate(group) for b in group[:i]]
    assert Guard(lambda: images).diversity() == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-6, abs=1e-9)


def test_guard_warns_again_when_collapse_recurs():
    warnings, shares = [], (1, 0.5, 0.1, 0.1, 1, 0.1)
    images = iter([VARIED * share for share in shares])
    guard = Guard(lambda: next(images), warn=warnings.append)
    for step in range(len(shares)):
        assert guard.check(WITHOUT_WEIGHTS, step, GOOD)["sample_diversity"] > 0
    assert [line.partition(":")[0] for line in warnings] == ["Warning at step 2", "Warning at step 5"]
    assert all("mode collapse" in line and "generator_optimizer.learning_rate" in line for line in warnings)


def test_guard_detects_generator_that_ignores_latent():
    gan = make_gan()
    warnings = []
    sampler = Sampler(gan.generator, SAMPLES, outputs=lambda images: (images,))
    labels = np.repeat(np.arange(GROUPS) % 3, SAMPLES // GROUPS)
    guard = Guard(lambda: sampler.sample(range(SAMPLES), labels), warn=warnings.append)
    before = guard.check(gan, 1, GOOD)["sample_diversity"]
    dense = next(layer for layer in gan.generator.layers if "dense" in layer.name or "project" in layer.name)
    kernel = dense.trainable_variables[0]
    kernel.assign(0 * kernel)
    after = guard.check(gan, 2, GOOD)["sample_diversity"]
    assert after < COLLAPSED_SHARE * before and len(warnings) == 1


@pytest.mark.parametrize(
    ("means", "text"),
    [
        ({"d_accuracy": 1.0, "d_loss": 0.001}, "tells all real and generated images apart"),
        ({"d_accuracy": 1.0, "d_loss": 0.281, "r1": 0.27, "lecam": 0.01}, "apart (accuracy 1.000, loss 0.0010)"),
        ({"d_accuracy": 0.99, "d_loss": 0.001}, None),
        ({"d_accuracy": 1.0, "d_loss": 0.3}, None),
        ({"d_accuracy": 1.0, "d_loss": -30.0}, None),
        ({"d_gradient_norm": 0.0, "g_gradient_norm": 0.0}, "gives all images the same logit"),
        ({"d_gradient_norm": 8e-6, "g_gradient_norm": 0.0}, "gives all images the same logit"),  # rounding
        ({"d_gradient_norm": 0.0, "g_gradient_norm": 1e-9}, None),
        ({"d_gradient_norm": 0.3, "g_gradient_norm": 0.0}, None),
        ({"d_gradient_norm": 0.0, "g_gradient_norm": 0.0, "d_skipped": 1.0, "g_skipped": 1.0}, None),
        ({"d_gradient_norm": 0.0, "g_gradient_norm": 0.0, "d_skipped": 0.5}, "gives all images the same logit"),
    ],
)
def test_guard_detects_saturated_and_dead_discriminators(means, text):
    warnings = []
    Guard(lambda: VARIED, warn=warnings.append).check(WITHOUT_WEIGHTS, 5, {**GOOD, **means})
    assert [text in line for line in warnings] == ([] if text is None else [True])
    if text:
        with pytest.raises(TrainingFailure, match=re.escape(text)) as caught:
            Guard(lambda: VARIED, stop_on_collapse=True).check(WITHOUT_WEIGHTS, 5, {**GOOD, **means})
        assert (caught.value.kind, caught.value.step) == ("collapse", 5)


@pytest.mark.parametrize("loss", ["hinge", "relativistic"])
def test_discriminator_that_sees_nothing_is_dead_and_right_about_half(loss):
    image = keras.Input((32, 32, 3))
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(0.0, offset=0.3)(image))
    gan = SAGAN(
        toy_generator(num_classes=None, attention_sizes=()), keras.Model(image, keras.layers.Dense(1)(features))
    )
    gan.compile(loss=loss, r1_weight=0.5)
    history = gan.fit(np.random.default_rng(0).uniform(-1, 1, (24, 32, 32, 3)), batch_size=24, verbose=0).history
    means = {"sample_diversity": 1.0, **{name: values[-1] for name, values in history.items()}}
    assert means["d_accuracy"] == 0.5 and FailureSigns().of(means) == {"dead"}


@pytest.mark.parametrize("options", [{"augmentation": ("color",)}, {"ada_target": 0.6}])
def test_guard_does_not_advise_augmentation_where_there_is_some(options):
    warnings, means = [], {**GOOD, "d_accuracy": 1.0, "d_loss": 0.001}
    for gan in (WITHOUT_WEIGHTS, SimpleNamespace(**{**vars(WITHOUT_WEIGHTS), **options})):
        Guard(lambda: VARIED, warn=warnings.append).check(gan, 5, means)
    assert ["training.augmentation" in line for line in warnings] == [True, False]


def test_guard_warns_once_while_the_discriminator_guesses():
    warnings, accuracies = [], [0.5] * (GUESSING_LINES - 1) + [0.55] + [0.49, 0.51] * GUESSING_LINES + [0.6]
    guard = Guard(lambda: VARIED, warn=warnings.append)
    for step, accuracy in enumerate(accuracies):
        guard.check(WITHOUT_WEIGHTS, step, {**GOOD, "d_accuracy": accuracy})
    assert len(warnings) == 1
    assert f"Warning at step {2 * GUESSING_LINES - 1}: the discriminator is right about half" in warnings[0]


@pytest.mark.parametrize(("loss", "count"), [("wasserstein", 0), ("least_squares", 0), ("relativistic", 1)])
def test_guard_does_not_take_logits_of_one_sign_for_guesses(loss, count):
    """These discriminators give real images 5 and generated ones 3: right, where the limit is not 0."""
    warnings, means = [], {**GOOD, "d_accuracy": 0.5, "real_logit": 5.0, "fake_logit": 3.0}
    guard, gan = Guard(lambda: VARIED, warn=warnings.append), SimpleNamespace(**PLAIN)
    gan.adversarial_loss = losses.get(loss)
    for step in range(GUESSING_LINES):
        guard.check(gan, step, means)
    assert len(warnings) == count
