"""Training in float16: updates as in float32, skipped steps, the scale, saving."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from training.float16 import OVERFLOWING, SIZE, make_images, make_small, scaling_state, state
from training.tiny import fit

from sagan_tf.experiment.checkpoints import make_checkpoint, restore
from sagan_tf.training.guard import Guard, TrainingFailure
from sagan_tf.training.loss_scale import (
    MAXIMUM_SCALE,
    MINIMUM_SCALE,
    DynamicLossScaleOptimizer,
    inner_loss_scale,
    with_loss_scaling,
)
from sagan_tf.training.regularization import mean_squared_gradient

EAGER = dict(run_eagerly=True)


def trainable(gan):
    return [np.float64(v) for v in gan.trainable_variables]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, dict(accumulation_steps=2), dict(share_fake_batch=True), dict(r1_weight=1.0, r1_interval=2, d_steps=2)],
)
def test_update_in_float16_is_that_of_float32(options):
    moves = []
    for dtype in ("float32", "mixed_float16"):
        gan = make_small(dtype, rate=1e4, **options, **EAGER)
        gan.r1_weight *= 1e-6  # as the loss
        before = trainable(gan)
        history = fit(gan, make_images(1))
        moves.append([after - b for after, b in zip(trainable(gan), before)])
    assert history["d_skipped"] == history["g_skipped"] == [0]
    for exact, got in zip(*moves, strict=True):
        assert np.linalg.norm(got - exact) < 0.01 * np.linalg.norm(exact) + 1e-6


def test_r1_gradient_in_float16_is_that_of_float32_where_it_overflows_unscaled():
    gradients, image = [], next(iter(make_images()))
    for dtype, scale, factor in (("float32", 1.0, 1.0), ("mixed_float16", 128.0, 2**15), ("mixed_float16", 1.0, 2**15)):
        network = make_small(dtype).discriminator
        dense = network.get_layer("logit")
        dense.kernel.assign(0.01 * dense.kernel)
        with tf.GradientTape() as tape:
            loss = factor * 1e4 * mean_squared_gradient(network, image, None, scale)
        gradients.append(np.float64(tape.gradient(loss, network.trainable_variables[0].value)) / factor)
    exact, scaled, unscaled = gradients
    assert np.linalg.norm(scaled - exact) < 0.01 * np.linalg.norm(exact)
    assert not np.isfinite(unscaled).all()
    assert float(inner_loss_scale(keras.optimizers.SGD(loss_scale_factor=2.0**15))) == 128
    assert float(inner_loss_scale(keras.optimizers.SGD())) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("share_fake_batch", "in_forward_pass"), [(False, False), (True, True)])
def test_skipped_step_changes_nothing_but_the_scale(share_fake_batch, in_forward_pass):
    gan = make_small(optimizer=keras.optimizers.Adam, loss="hinge", share_fake_batch=share_fake_batch)
    fit(gan, make_images(1))
    optimizers = gan.discriminator_optimizer, gan.generator_optimizer
    for optimizer in optimizers:
        optimizer.dynamic_scale.assign(2.0**15 if in_forward_pass else 2.0**23)
    if in_forward_pass:
        gan.generator.get_layer("norm").gamma.assign([1e6, 1.0, 1.0])  # infinite in float16, so NaN after tanh's input
        gan.discriminator.get_layer("logit").kernel.assign(np.full((128, 1), 1e6))
    before, scales = state(gan), scaling_state(gan)
    history = fit(gan, make_images(2))
    for old, new in zip(before, state(gan), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(scaling_state(gan)[:, 0], scales[:, 0] / 4)
    np.testing.assert_array_equal(scaling_state(gan)[:, 2], scales[:, 2] + 2)
    assert int(gan.step) == 3
    assert history["d_skipped"] == history["g_skipped"] == [1] and history["d_loss"] == [0]


def test_generator_is_updated_when_the_discriminator_skips():
    gan = make_small(loss=OVERFLOWING, **EAGER)
    gan.generator_optimizer.dynamic_scale.assign(1.0)
    before = [network.get_weights() for network in (gan.discriminator, gan.generator, gan.ema_generator)]
    fit(gan, make_images(1, bright=3))
    after = [network.get_weights() for network in (gan.discriminator, gan.generator, gan.ema_generator)]
    same = [all(map(np.array_equal, old, new)) for old, new in zip(before, after)]
    assert same == [True, False, False]
    assert scaling_state(gan)[:, 2].tolist() == [1, 0]


def test_loss_scale_stays_within_bounds():
    weight = keras.Variable([1.0])
    for start, gradient, end in ((MINIMUM_SCALE, np.inf, MINIMUM_SCALE), (MAXIMUM_SCALE, 1.0, MAXIMUM_SCALE)):
        optimizer = DynamicLossScaleOptimizer(keras.optimizers.SGD(), initial_scale=start, dynamic_growth_steps=1)
        optimizer.build([weight])
        optimizer.apply([tf.constant([gradient])], [weight])
        assert float(optimizer.dynamic_scale) == end
    assert np.isfinite(weight.numpy()).all()


def test_optimizers_are_wrapped_where_a_network_computes_in_float16():
    in_float16, in_bfloat16 = (make_small(dtype).generator for dtype in ("mixed_float16", "mixed_bfloat16"))
    adam, fixed = keras.optimizers.Adam(), keras.optimizers.Adam(loss_scale_factor=8.0)
    wrapped = with_loss_scaling(adam, [in_bfloat16, in_float16])
    assert wrapped.inner_optimizer is adam and with_loss_scaling(wrapped, [in_float16]) is wrapped
    assert with_loss_scaling(adam, [in_bfloat16]) is adam
    assert with_loss_scaling(fixed, [in_float16]) is fixed
    of_keras = with_loss_scaling(keras.optimizers.LossScaleOptimizer(adam, 4.0, 9), [in_bfloat16])
    assert isinstance(of_keras, DynamicLossScaleOptimizer) and of_keras.inner_optimizer is adam
    assert (of_keras.initial_scale, of_keras.dynamic_growth_steps) == (4.0, 9)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["load_model", "checkpoint"])
def test_training_in_float16_continues_bit_by_bit(way, tmp_path):
    data, options = make_images(4, bright=13), dict(optimizer=keras.optimizers.Adam, loss="hinge", **EAGER)
    gan = make_small(**options)
    gan.discriminator_optimizer.dynamic_scale.assign(2.0**23)
    fit(gan, data.take(2))
    if way == "load_model":
        gan.save(tmp_path / "gan.keras")
        loaded = keras.models.load_model(tmp_path / "gan.keras")
    else:
        path, loaded = make_checkpoint(gan).save(str(tmp_path / "checkpoint")), make_small(**options)
        assert restore(loaded, path) is None
    assert scaling_state(loaded)[0].tolist() == [2.0**21, 0, 2]
    for one in (gan, loaded):
        one.discriminator_optimizer.dynamic_scale.assign(2.0**16)
        fit(one, data.skip(2))
    for a, b in zip(state(gan), state(loaded), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(scaling_state(gan), scaling_state(loaded))


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [("float32", "mixed_float16"), ("mixed_float16", "float32")])
def test_checkpoint_continues_in_another_precision(first, then, tmp_path):
    gan, other = (make_small(dtype, optimizer=keras.optimizers.Adam, **EAGER) for dtype in (first, then))
    fit(gan, make_images(2))
    assert restore(other, make_checkpoint(gan).save(str(tmp_path / "checkpoint"))) is None
    for a, b in zip(state(gan), state(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_guard_ignores_skipped_steps_and_finds_an_exhausted_scale():
    gan, guard = make_small(loss=OVERFLOWING, **EAGER), Guard(lambda: np.zeros((64, 8, 8, 3)))
    history = fit(gan, make_images(1, bright=3))
    guard.check(gan, 1, {name: values[0] for name, values in history.items()})
    gan.discriminator_optimizer.dynamic_scale.assign(2 * MINIMUM_SCALE)
    gan.discriminator.get_layer("logit").kernel.assign(np.full((128, 1), 1e6))  # infinite in float16
    history = fit(gan, make_images(1))
    with pytest.raises(TrainingFailure, match="diverged: discriminator's gradient became infinite or NaN"):
        guard.check(gan, 2, {name: values[0] for name, values in history.items()})


@pytest.mark.slow
def test_training_in_float16_learns_the_mean_image():
    rng = np.random.default_rng(0)
    pattern = rng.uniform(-0.8, 0.8, SIZE)
    images = np.float32(np.clip(pattern + 0.1 * rng.normal(size=(256, *SIZE)), -1, 1))
    gan, latent = make_small(optimizer=keras.optimizers.Adam, rate=2e-3, loss="hinge"), rng.normal(size=(256, 4))

    def distance():
        return np.abs(np.float64(gan.generator(latent)).mean(0) - pattern).mean()

    before = distance()
    fit(gan, tf.data.Dataset.from_tensor_slices(images).repeat(12).batch(16))
    assert distance() < 0.4 * before  # float32: 0.28
