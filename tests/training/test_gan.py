"""The training step: which weights change, and options against their definitions."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from toy_networks import toy_discriminator, toy_generator
from training.float16 import make_images, make_small
from training.tiny import fit, make_data, make_gan

from sagan_tf.layers import spectral_normalizations
from sagan_tf.networks import build_generator
from sagan_tf.training import SAGAN
from sagan_tf.training.randomness import StepRandomness
from sagan_tf.training.regularization import gradient_term
from sagan_tf.training.step import StepBatches, discriminator_loss


def values(variables):
    return [np.array(v) for v in variables]


def vectors(network):
    return [layer.u.numpy() for layer in spectral_normalizations(network).values()]


@pytest.fixture(scope="module")
def traced():
    """A compiled SAGAN whose step, for `make_data(8, ...)`, is traced once."""
    return make_gan(keras.optimizers.Adam, attention_sizes=(16,))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_sagan_step_moves_all_weights_of_both_networks(traced):
    gan = traced
    gan.step.assign(0)
    before = values(gan.generator.trainable_variables), values(gan.discriminator.trainable_variables)
    # Of unknown length: the end is found by one call too many, which must not count as a step.
    history = fit(gan, make_data(8, 3).filter(lambda *_: True))
    after = values(gan.generator.trainable_variables), values(gan.discriminator.trainable_variables)
    for old, new in zip(before, after):
        assert all(not np.array_equal(a, b) for a, b in zip(old, new))
    assert int(gan.step.numpy()) == 3
    losses = {"d_loss", "g_loss", "real_logit", "fake_logit", "d_accuracy"}
    assert set(history) == losses | {"d_gradient_norm", "g_gradient_norm"}
    assert np.isfinite(list(history.values())).all()


def test_sagan_trains_the_variables_of_the_two_networks_only():
    gan = make_gan()
    networks = gan.generator, gan.discriminator
    assert {id(v) for v in gan.trainable_weights} == {id(v) for n in networks for v in n.trainable_variables}


@pytest.mark.parametrize("part", [0, 1])
def test_sagan_rejects_frozen_networks(part):
    gan = make_gan()
    networks = [gan.generator, gan.discriminator]
    networks[part].trainable = False
    with pytest.raises(ValueError, match="has no trainable weights"):
        SAGAN(*networks)


class Subclassed(keras.Model):
    """A network whose inputs and outputs nobody knows."""


def test_sagan_rejects_networks_without_known_inputs_and_in_another_order():
    gan = make_gan()
    for network in (Subclassed(), keras.Sequential([keras.layers.Dense(2)])):
        with pytest.raises(ValueError, match="The generator must be a functional keras.Model"):
            SAGAN(network, gan.discriminator)
        with pytest.raises(ValueError, match="The discriminator must be a functional keras.Model"):
            SAGAN(gan.generator, network)
    latent, label = gan.generator.inputs
    turned = keras.Model([label, latent], gan.generator([latent, label]))
    with pytest.raises(ValueError, match=r"must take latent \(B, D\), or \[latent, label \(B,\)\]. Received: inputs"):
        SAGAN(turned, gan.discriminator, label_distribution=(0.5, 0.25, 0.25))


def flat_networks(dtype=None, **dense):
    """Small networks without labels for 8 px images: (generator, discriminator)."""
    latent, image = keras.Input((5,)), keras.Input((8, 8, 3))
    pixels = keras.layers.Dense(192, "tanh", dtype=dtype, **dense)(latent)
    logit = keras.layers.Dense(1, dtype=dtype, **dense)(keras.layers.Flatten(dtype=dtype)(image))
    return keras.Model(latent, keras.layers.Reshape((8, 8, 3), dtype=dtype)(pixels)), keras.Model(image, logit)


def test_sagan_rejects_several_outputs_and_several_logits():
    generator, discriminator = flat_networks()
    (image,) = discriminator.inputs
    flat = keras.layers.Flatten()(image)
    both = keras.Model(image, [discriminator.outputs[0], keras.layers.Dense(1)(flat)])
    with pytest.raises(ValueError, match=r"must have one output. Received: \[<KerasTensor"):
        SAGAN(generator, both)
    with pytest.raises(ValueError, match=r"must have one output. Received: {'image'"):
        SAGAN(keras.Model(generator.inputs, {"image": generator.outputs[0]}), discriminator)
    with pytest.raises(ValueError, match=r"must make logits \(B, 1\), \(B,\) or .* Received: \(None, 10\)"):
        SAGAN(generator, keras.Model(image, keras.layers.Dense(10)(flat)))
    SAGAN(generator, keras.Model(image, keras.layers.Conv2D(1, 3)(image)))  # of patches
    SAGAN(generator, keras.Model(image, keras.layers.Reshape(())(discriminator.outputs[0])))


def test_sagan_rejects_networks_that_share_a_layer():
    generator, discriminator = flat_networks()
    (image,), (latent,) = discriminator.inputs, generator.inputs
    shared = keras.layers.Dense(192, name="shared")
    pixels = keras.layers.Reshape((8, 8, 3))(shared(keras.layers.Dense(192)(latent)))
    logit = keras.layers.Dense(1)(shared(keras.layers.Flatten()(image)))
    with pytest.raises(
        ValueError, match=r"must not share weights. Received: both have \['shared/kernel', 'shared/bias'"
    ):
        SAGAN(keras.Model(latent, pixels), keras.Model(image, logit))


@pytest.mark.parametrize("r1_interval", [1, 2])
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_sagan_computes_losses_of_logits_of_any_dtype_in_float32(dtype, r1_interval):
    options = dict(r1_weight=0.1, r2_weight=0.1, r1_interval=r1_interval, lecam_weight=0.1, consistency_real_weight=0.1)
    images = np.random.default_rng(0).uniform(-1, 1, (16, 8, 8, 3)).astype("float32")
    means, weights = [], None
    for used in (dtype, "float32"):
        gan = SAGAN(*flat_networks(used, kernel_regularizer="l2"))
        weights = weights or gan.get_weights()
        gan.set_weights(weights)
        gan.compile(keras.optimizers.SGD(1e-3), keras.optimizers.SGD(1e-3), ada_target=0.5, **options)
        means.append(gan.fit(images, batch_size=8, verbose=0, shuffle=False).history)
        gan.evaluate(images, batch_size=8, verbose=0)
    for name in ("d_loss", "g_loss", "r1", "lecam", "real_logit"):
        np.testing.assert_allclose(means[0][name], means[1][name], rtol=0.05, atol=0.02, err_msg=name)


def test_sagan_step_rejects_labels_out_of_range(traced):
    for label in (-1, 3):
        data = make_data(8, 1).map(lambda image, _: (image, tf.constant([0, 1, 2, label] * 2)))
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"Labels must be whole numbers in 0 \.\. 2"):
            fit(traced, data)


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_sagan_gradient_norms_match_the_step(accumulation_steps):
    options = dict(accumulation_steps=accumulation_steps, run_eagerly=True)
    gan = make_gan(rate=1e-3, attention_sizes=(16,), compile_arguments=options)
    networks = {"g": (gan.generator, 1e-3), "d": (gan.discriminator, 4e-3)}
    before = {letter: values(network.trainable_variables) for letter, (network, _) in networks.items()}
    history = fit(gan, make_data(8, 1))
    for letter, (network, rate) in networks.items():
        # Plain SGD moves by the rate times the gradient.
        moves = [a.astype("float64") - b for a, b in zip(before[letter], values(network.trainable_variables))]
        norm = np.sqrt(sum((move**2).sum() for move in moves)) / rate
        np.testing.assert_allclose(history[f"{letter}_gradient_norm"], norm, rtol=1e-3)


def test_sagan_step_makes_one_power_iteration_of_the_discriminator(traced):
    gan, wanted = traced, []
    for layer in spectral_normalizations(gan.discriminator).values():
        before = layer.u.numpy()
        layer.update_u()
        wanted.append(layer.u.numpy())
        layer.u.assign(before)
    fit(gan, make_data(8, 1))
    # Real and fake images share one call, and the generator's step does not change u: exactly one iteration.
    for got, want in zip(vectors(gan.discriminator), wanted):
        np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.slow
def test_sagan_runs_are_equal_only_with_equal_seeds():
    runs = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(0)
        gan = make_gan(seed=seed, compile_arguments=dict(run_eagerly=True))
        fit(gan, make_data(4, 2))
        runs.append(np.concatenate([v.ravel() for v in values(gan.generator.trainable_variables)]))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_sagan_batches_of_the_updates_are_interleaved():
    image = tf.reshape(tf.range(8.0), (8, 1, 1, 1))
    batches = StepBatches((image, tf.range(8)), d_steps=2, accumulation_steps=2)
    for indices in (range(4), tf.range(4)):
        parts = [[x.numpy().ravel().tolist() for x in batches[i]] for i in indices]
        assert parts == [[part, part] for part in ([0, 4], [1, 5], [2, 6], [3, 7])]


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["non_saturating", "wasserstein", "least_squares"])
def test_sagan_trains_finitely_with_every_loss(loss):
    gan = make_gan(rate=1e-5, compile_arguments=dict(loss=loss, run_eagerly=True))  # faster than tracing three graphs
    history = fit(gan, make_data(8, 2))
    assert np.isfinite(list(history.values())).all() and max(map(abs, sum(history.values(), []))) < 1e5


@pytest.mark.slow
def test_sagan_trains_finitely_with_all_options():
    # As a graph in test_replicas.py.
    options = dict(d_steps=2, accumulation_steps=2, r1_weight=0.5, r1_interval=2, run_eagerly=True)
    gan = make_gan(
        attention_sizes=(16,), augmentation=("color", "translation", "cutout"), ema_start_step=1,
        compile_arguments=options,
    )  # fmt: skip
    history = fit(gan, make_data(8, 2))
    assert np.isfinite(list(history.values())).all()
    assert history["r1"][0] > 0
    assert int(gan.discriminator_optimizer.iterations.numpy()) == 4
    assert int(gan.generator_optimizer.iterations.numpy()) == 2


def test_discriminator_loss_pairs_each_image_with_its_label():
    """It does not depend on the order of pairs, and does on which label an image has."""
    gan = make_gan(attention_sizes=(16,), compile_arguments=dict(run_eagerly=True))
    ((image, _),) = make_data(4, 1)
    label, weights = tf.constant([0, 1, 2, 0]), gan.get_weights()

    def loss(images, labels):
        gan.set_weights(weights)
        parts = tf.gather(image, images), tf.gather(label, labels)
        return float(discriminator_loss(gan, *parts, StepRandomness(0, 0), "x")[0])

    order, swapped = [0, 1, 2, 3], [1, 0, 2, 3]
    assert loss(swapped, swapped) == pytest.approx(loss(order, order), rel=1e-5)
    assert loss(order, swapped) != pytest.approx(loss(order, order), rel=1e-4)


@pytest.mark.slow
def test_sagan_accumulation_averages_gradients():
    """Accumulation over two batches changes the discriminator by the mean of their two updates (SGD)."""
    data = make_data(8, 1)
    keras.utils.set_random_seed(0)
    gan = make_gan(attention_sizes=(16,), compile_arguments=dict(accumulation_steps=2))
    start = gan.discriminator.get_weights()
    moves = []
    (batch,) = data
    variables = gan.discriminator.trainable_variables
    batches = StepBatches(batch, gan.d_steps, gan.accumulation_steps)
    for j in range(2):
        with tf.GradientTape() as tape:
            loss, _ = discriminator_loss(gan, *batches[j], StepRandomness(0, gan.step), f"discriminator/{j}")
        moves.append([np.array(g) for g in tape.gradient(loss, [v.value for v in variables])])
    gan.discriminator.set_weights(start)
    keras.utils.set_random_seed(0)
    twin = make_gan(attention_sizes=(16,), compile_arguments=dict(accumulation_steps=2, run_eagerly=True))
    before = values(twin.discriminator.trainable_variables)
    fit(twin, data)
    for old, new, a, b in zip(before, values(twin.discriminator.trainable_variables), *moves):
        np.testing.assert_allclose(new, old - 4e-3 * (a + b) / 2, atol=2e-5)


def test_sagan_shares_fake_batch_of_the_discriminator():
    """The discriminator is updated as without sharing; the generator by its gradient on the same latents (SGD)."""
    data, gans = make_data(4, 1), []
    for share in (False, True):
        keras.utils.set_random_seed(0)
        gans.append(make_gan(compile_arguments=dict(share_fake_batch=share, run_eagerly=True)))
        start = gans[-1].generator.get_weights()
        before = values(gans[-1].generator.trainable_variables)
        fit(gans[-1], data)
    apart, shared = gans
    for a, b in zip(values(apart.discriminator.weights), values(shared.discriminator.weights)):
        np.testing.assert_allclose(a, b, atol=1e-6)
    after = values(shared.generator.trainable_variables)
    shared.generator.set_weights(start)
    randomness, uniform = StepRandomness(0, tf.constant(0)), (1 / 3,) * 3
    latent = randomness.normal("discriminator/0/latent", 4, shared.latent_dim)
    label = randomness.labels("discriminator/0/label", 4, uniform)
    with tf.GradientTape() as tape:
        image = shared.generator([latent, label], training=True)
        loss = -tf.reduce_mean(shared.discriminator([image, label], training=False))
    gradients = tape.gradient(loss, [v.value for v in shared.generator.trainable_variables])
    for old, new, gradient in zip(before, after, gradients):
        np.testing.assert_allclose(new, old - 1e-3 * np.array(tf.convert_to_tensor(gradient)), atol=1e-6)
    assert any(not np.allclose(a, b, atol=1e-6) for a, b in zip(values(apart.generator.trainable_variables), after))


def test_sagan_generator_update_makes_no_pass_of_its_own_when_sharing():
    gan = make_gan(rate=0.0, compile_arguments=dict(share_fake_batch=True, d_steps=2, run_eagerly=True))
    layers, wanted = spectral_normalizations(gan.generator).values(), []
    for layer in layers:
        before = layer.u.numpy()
        layer.update_u()  # of the first discriminator update
        layer.update_u()  # of the second, shared by the generator's
        wanted.append(layer.u.numpy())
        layer.u.assign(before)
    fit(gan, make_data(8, 1))
    for got, want in zip(vectors(gan.generator), wanted):
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_sagan_r1_of_a_linear_discriminator_is_its_squared_length():
    sizes = dict(image_size=32, channels=8, num_classes=None, attention_sizes=())
    image = keras.Input((32, 32, 3))
    dense = keras.layers.Dense(1, use_bias=False)
    discriminator = keras.Model(image, dense(keras.layers.Flatten()(image)))
    gan = SAGAN(build_generator(**sizes), discriminator)
    gan.compile(r1_weight=3.0)
    real = tf.random.stateless_normal((4, 32, 32, 3), (0, 0))
    want = 3.0 / 2 * float(np.sum(dense.kernel.numpy().astype(np.float64) ** 2))
    assert float(gradient_term(gan, 3.0, real, None)) == pytest.approx(want, rel=1e-5)


@pytest.mark.slow
def test_sagan_trains_on_images_without_labels():
    gan = make_gan(num_classes=None, compile_arguments=dict(run_eagerly=True))
    fit(gan, make_data(4, 1).map(lambda image, label: (image,)))
    fit(gan, make_data(4, 1).map(lambda image, label: image))
    fit(gan, make_data(4, 1))
    assert int(gan.step.numpy()) == 3


@pytest.mark.slow
def test_sagan_trains_in_mixed_bfloat16_with_float32_weights():
    gan = make_gan(
        keras.optimizers.Adam, dtype="mixed_bfloat16", attention_sizes=(16,), compile_arguments=dict(run_eagerly=True)
    )
    history = fit(gan, make_data(4, 2))
    assert np.isfinite(list(history.values())).all()
    assert {w.dtype for w in gan.generator.weights + gan.discriminator.weights} == {"float32"}


@pytest.mark.slow
def test_sagan_steps_are_equal_in_one_or_several_per_call():
    runs = []
    for steps in (1, 2):
        # Single steps run eagerly: faster, and a stricter comparison.
        gan = make_small("float32", loss="hinge", steps_per_execution=steps, run_eagerly=steps == 1)
        fit(gan, make_images(4))
        runs.append(values(gan.generator.weights))
    for a, b in zip(*runs):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_sagan_labels_follow_label_distribution():
    label = StepRandomness(0, tf.constant(5)).labels("x", 20_000, (0.5, 0.0, 0.2, 0.3)).numpy()
    frequencies = np.bincount(label, minlength=4) / 20_000
    np.testing.assert_allclose(frequencies, (0.5, 0.0, 0.2, 0.3), atol=0.015)  # 4 standard deviations
    assert frequencies[1] == 0


def test_sagan_latents_are_normal_and_differ_by_step_and_purpose():
    def draw(step, purpose):
        return StepRandomness(0, tf.constant(step)).normal(purpose, 500, 40).numpy()

    a = draw(0, "a")
    assert abs(a.mean()) < 0.03 and abs(a.std() - 1) < 0.03
    np.testing.assert_array_equal(a, draw(0, "a"))
    for other in (draw(1, "a"), draw(0, "b")):
        assert abs(np.corrcoef(a.ravel(), other.ravel())[0, 1]) < 0.03


def test_sagan_rejects_networks_that_do_not_match():
    generator = toy_generator()
    with pytest.raises(ValueError, match="labels"):
        SAGAN(generator, toy_discriminator(num_classes=None))
    with pytest.raises(ValueError, match="images of"):
        SAGAN(generator, toy_discriminator(64))
    for distribution in ((0.5, 0.5), (0.5, 0.5, np.nan), (np.nan, 0.5, 0.5)):
        with pytest.raises(ValueError, match="label_distribution"):
            SAGAN(generator, toy_discriminator(), label_distribution=distribution)


def test_sagan_rejects_arguments_out_of_range():
    gan = make_gan()
    for arguments in (
        dict(d_steps=0),
        dict(d_steps=True),
        dict(accumulation_steps=1.5),
        dict(r1_weight=-1.0),
        dict(loss="x"),
    ):
        with pytest.raises(ValueError, match="Received"):
            gan.compile(**arguments)
    with pytest.raises(ValueError, match="`share_fake_batch` needs `accumulation_steps` 1"):
        gan.compile(share_fake_batch=True, accumulation_steps=2)
    gan.compile(d_steps=3)
    with pytest.raises(ValueError, match="multiple of d_steps"):
        fit(gan, make_data(4, 1))
    with pytest.raises(tf.errors.InvalidArgumentError, match="drop_remainder"):  # the size of the last one is 1
        fit(gan, make_data(3, 2).unbatch().take(4).batch(3))
    with pytest.raises(ValueError, match="drop_remainder"):
        gan.train_step(next(iter(make_data(4, 1))))
    gan = make_gan()
    with pytest.raises(ValueError, match="take labels"):
        fit(gan, make_data(4, 1).map(lambda image, label: image))
