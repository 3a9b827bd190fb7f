"""Penalties of the discriminator's logits and images against float64, and the step that applies them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from training.float16 import OVERFLOWING, make_images, make_small
from training.tiny import fit, make_data, make_gan

from sagan_tf.accelerate import use_kernels
from sagan_tf.accelerate.selection import kernels_for
from sagan_tf.experiment.checkpoints import make_checkpoint, restore
from sagan_tf.training import losses
from sagan_tf.training.augmentation import flip_and_translate
from sagan_tf.training.randomness import StepRandomness

LECAM = dict(lecam_weight=0.3, lecam_decay=0.9, lecam_start_step=2)
ADA = dict(ada_target=0.6, ada_images=128)


class Lines(keras.callbacks.Callback):
    """Keeps the metrics of every step."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def on_train_batch_begin(self, batch, logs=None):
        self.model.reset_metrics()

    def on_train_batch_end(self, batch, logs=None):
        self.lines.append({name: float(value) for name, value in logs.items()})


@pytest.mark.parametrize("batches", [1, 2])
def test_lecam_matches_float64_over_the_steps(batches):
    options = dict(run_eagerly=True, accumulation_steps=batches, **LECAM)
    gan, seen = make_gan(num_classes=None, compile_arguments=options), Lines()
    means, wanted, logits = np.zeros(2), [], []
    loss = gan.adversarial_loss

    def recorded(*pair):
        logits.append(np.float64(pair))
        return loss.discriminator(*pair)

    gan.adversarial_loss = losses.AdversarialLoss("recorded", recorded, loss.generator)
    fit(gan, make_data(4 * batches, 5), callbacks=[seen])
    for i, (real, fake) in enumerate(logits):
        rate = 1.0 if i < 2 * batches else 1 - 0.9 ** (1 / batches)  # decays by 0.9 per update
        means += rate * (np.array([real.mean(), fake.mean()]) - means)
        penalty = np.mean(np.maximum(real - means[1], 0) ** 2) + np.mean(np.maximum(means[0] - fake, 0) ** 2)
        wanted.append(0.0 if i < 2 * batches else 0.3 * penalty)
    of_steps = np.reshape(wanted, (5, batches)).mean(1)
    np.testing.assert_allclose([line["lecam"] for line in seen.lines], of_steps, rtol=1e-5)
    np.testing.assert_allclose(gan.lecam_means, means, rtol=1e-5)
    assert wanted[-1] > 0


@pytest.mark.slow
@pytest.mark.parametrize("way", ["load_model", "checkpoint"])
def test_state_of_lecam_and_ada_is_saved(way, tmp_path):
    gan, twin = (make_small("float32", loss="hinge", run_eagerly=True, **LECAM, **ADA) for _ in range(2))
    gan.ada_p.assign(0.5)
    fit(gan, make_images(3))
    if way == "load_model":
        gan.save(tmp_path / "gan.keras")
        twin = keras.models.load_model(tmp_path / "gan.keras", compile=True)
        assert twin.get_compile_config() == gan.get_compile_config()
    else:
        assert restore(twin, make_checkpoint(gan).save(str(tmp_path / "checkpoint"))) is None
    for one in (gan, twin):
        fit(one, make_images(2))
    for a, b in zip(twin.variables, gan.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.any(gan.lecam_means) and gan.ada_p in (0.25, 0.75) and gan.ada_signs[1] == 1  # moved by the fourth step


def test_skipped_step_moves_neither_lecam_means_nor_p_of_ada():
    gan = make_small(loss=OVERFLOWING, run_eagerly=True, lecam_weight=0.3, lecam_start_step=1, **ADA)
    fit(gan, make_images(1))
    before = [np.array(x) for x in (gan.lecam_means, gan.ada_p, gan.ada_signs)]
    fit(gan, make_images(1, bright=3))
    assert int(gan.discriminator_optimizer.skipped_steps) == 1
    for got, want in zip((gan.lecam_means, gan.ada_p, gan.ada_signs), before):
        np.testing.assert_array_equal(got, want)


def make_seeded(**options):
    keras.utils.set_random_seed(0)
    return make_gan(rate=1e-3, compile_arguments=dict(run_eagerly=True, **options))


def softplus(x):
    return tf.reduce_mean(tf.maximum(x, 0) + tf.math.log(1 + tf.exp(-tf.abs(x))))


def squared_gradient(network, image, label):
    with tf.GradientTape() as tape:
        tape.watch(image)
        logit = network([image, label], training=False)
    return tf.reduce_sum(tape.gradient(logit, image) ** 2) / len(image)


@pytest.mark.slow
@pytest.mark.parametrize("share_fake_batch", [False, True])
def test_relativistic_step_pairs_images_of_one_class_and_adds_r1_and_r2(share_fake_batch):
    gan = make_seeded(loss="relativistic", r1_weight=0.02, r2_weight=0.03, share_fake_batch=share_fake_batch)
    twin = make_seeded()
    fit(gan, make_data(4, 1))
    ((real, label),) = make_data(4, 1)
    generator, discriminator = twin.generator, twin.discriminator

    def draw(name):
        return generator([StepRandomness(0, 0).normal(f"{name}/0/latent", 4, 128), label], training=True)

    with tf.GradientTape(persistent=True) as tape:
        made = draw("discriminator")
        fake = tf.stop_gradient(made)
        logit = discriminator([tf.concat([real, fake], 0), tf.concat([label, label], 0)], training=True)
        penalties = [squared_gradient(discriminator, image, label) for image in (real, fake)]
        loss = softplus(logit[4:] - logit[:4]) + 0.01 * penalties[0] + 0.015 * penalties[1]
    move(discriminator, 4e-3, tape.gradient(loss, [v.value for v in discriminator.trainable_variables]))
    with tape:
        made = made if share_fake_batch else draw("generator")
        real_logit, fake_logit = (discriminator([image, label], training=False) for image in (real, made))
        loss = softplus(real_logit - fake_logit)
    move(generator, 1e-3, tape.gradient(loss, [v.value for v in generator.trainable_variables]))
    for network, wanted in ((gan.generator, generator), (gan.discriminator, discriminator)):
        for got, want in zip(network.get_weights(), wanted.get_weights()):
            np.testing.assert_allclose(got, want, atol=2e-6)


def move(network, rate, gradients):
    for variable, gradient in zip(network.trainable_variables, gradients):
        variable.assign_sub(rate * tf.convert_to_tensor(gradient))


@keras.saving.register_keras_serializable(package="test")
def own_pairing(*logits):
    return losses.relativistic_generator_loss(*logits)


def test_custom_loss_loads_also_from_a_file_without_relativistic():
    config = losses.AdversarialLoss("own", own_pairing, own_pairing, relativistic=True).get_config()
    assert losses.AdversarialLoss.from_config(config) == losses.AdversarialLoss("own", own_pairing, own_pairing, True)
    del config["relativistic"]
    assert losses.AdversarialLoss.from_config(config) == losses.AdversarialLoss("own", own_pairing, own_pairing, False)


def test_consistency_step_compares_images_with_augmented_ones():
    options = dict(consistency_real_weight=3.0, consistency_fake_weight=2.0)
    gan, twin, randomness = make_seeded(**options), make_seeded(), StepRandomness(0, 0)
    history = fit(gan, make_data(4, 1))
    ((real, label),) = make_data(4, 1)
    labels = [label, randomness.labels("discriminator/0/label", 4, (1 / 3,) * 3)]
    with use_kernels(kernels_for(gan.distribute_strategy)):
        fake = twin.generator([randomness.normal("discriminator/0/latent", 4, 128), labels[1]], training=True)
    changed = [
        flip_and_translate(image, randomness.uniform(f"discriminator/0/consistency/{i}", 4, 3))
        for i, image in enumerate((real, fake))
    ]
    with tf.GradientTape() as tape:
        images = tf.concat([real, fake, *changed], 0)
        logits = tf.split(twin.discriminator([images, tf.concat(2 * labels, 0)], training=True), 4)
        penalty = sum(w * tf.reduce_mean((logits[i] - logits[2 + i]) ** 2) for i, w in enumerate((3.0, 2.0)))
        loss = penalty + tf.reduce_mean(tf.nn.relu(1 - logits[0])) + tf.reduce_mean(tf.nn.relu(1 + logits[1]))
    move(twin.discriminator, 4e-3, tape.gradient(loss, [v.value for v in twin.discriminator.trainable_variables]))
    np.testing.assert_allclose(history["consistency"], [penalty], rtol=1e-5)
    np.testing.assert_allclose(history["d_loss"], [loss], rtol=1e-5)
    for got, want in zip(gan.discriminator.get_weights(), twin.discriminator.get_weights()):
        np.testing.assert_allclose(got, want, atol=2e-6)
