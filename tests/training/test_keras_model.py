"""SAGAN as any Keras model: saving, evaluation, batches by hand, callbacks, and its answers to wrong input."""

import importlib.util
import types
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from training.float16 import make_images, make_small
from training.tiny import fit, make_data, make_gan

from sagan_tf.training import SAGAN, losses
from sagan_tf.training.adam import FusedAdam
from sagan_tf.training.schedules import WarmupAndDecay

EAGER = dict(run_eagerly=True)  # faster than tracing
IMAGES, LABELS = next(iter(make_data(4, 1)))


def state(gan):
    """All that training moves: networks, average, step, slots."""
    optimizers = gan.generator_optimizer.variables + gan.discriminator_optimizer.variables
    return [np.array(v) for v in (*gan.weights, *optimizers)]


def arguments(gan):
    """The arguments of a SAGAN and of its `compile`, without the networks, which are compared by their weights."""
    config = gan.get_config()
    del config["generator"], config["discriminator"]
    return config, gan.get_compile_config()


def assert_equal(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b):
        np.testing.assert_array_equal(x, y)


def make_full(**arguments):
    """A SAGAN with every argument away from its default."""
    return make_gan(
        lambda rate: FusedAdam(WarmupAndDecay(rate, "cosine", 2, 1, 9)), ema_decay=0.9, ema_start_step=1,
        label_distribution=(0.5, 0.2, 0.3), augmentation=("color", "cutout"), seed=5,
        compile_arguments=dict(
            loss="least_squares", d_steps=2, r1_weight=0.5, r1_interval=2, share_fake_batch=True, **EAGER
        ), **arguments,
    )  # fmt: skip


@pytest.mark.slow
def test_saved_sagan_continues_training_bit_by_bit(tmp_path):
    data, gan = make_data(4, 4), make_full(attention_sizes=(16,))
    fit(gan, data.take(2), callbacks=[keras.callbacks.ModelCheckpoint(str(tmp_path / "gan.keras"))])
    before = state(gan)
    fit(gan, data.skip(2))
    loaded = keras.models.load_model(tmp_path / "gan.keras")
    assert arguments(loaded) == arguments(gan)
    assert_equal(state(loaded), before)
    fit(loaded, data.skip(2))
    assert_equal(state(loaded), state(gan))
    assert int(loaded.step) == 4


def test_cloned_sagan_has_the_configuration_and_weights_of_its_own():
    gan = make_full()
    clone = keras.models.clone_model(gan)
    assert arguments(clone) == arguments(gan)
    assert not {id(v) for v in clone.variables} & {id(v) for v in gan.variables}
    again = SAGAN.from_config(gan.get_config())
    assert arguments(again)[0] == arguments(gan)[0] and not again.compiled


@keras.saving.register_keras_serializable(package="test")
def own_loss(*logits):
    return sum(keras.ops.mean(logit) for logit in logits)


def test_saved_sagan_keeps_a_loss_of_ones_own_and_no_average(tmp_path):
    gan = make_gan(ema_decay=None, num_classes=None, compile_arguments=dict(
        loss=losses.AdversarialLoss("own", own_loss, own_loss)
    ))  # fmt: skip
    gan.save(tmp_path / "gan.keras")
    loaded = keras.models.load_model(tmp_path / "gan.keras")
    assert loaded.adversarial_loss.discriminator is own_loss
    assert loaded.ema_generator is loaded.generator


def test_evaluate_changes_nothing_and_gives_the_means_of_its_definition():
    gan = make_gan(compile_arguments=EAGER)
    fit(gan, make_data(4, 1))
    before = state(gan)
    results = gan.evaluate(make_data(4, 2, seed=1).unbatch().batch(3), return_dict=True, verbose=0)
    assert_equal(state(gan), before)
    assert set(results) == {"d_loss", "g_loss", "real_logit", "fake_logit", "d_accuracy"}
    images, labels = next(iter(make_data(8, 1, seed=1)))
    real = np.float64(gan.discriminator([images, labels], training=False))
    np.testing.assert_allclose(results["real_logit"], real.mean(), rtol=1e-5)
    np.testing.assert_allclose(results["g_loss"], -results["fake_logit"], rtol=1e-5)
    again = gan.evaluate(make_data(4, 2, seed=1).unbatch().batch(3), return_dict=True, verbose=0)
    assert again == results


def test_evaluate_ignores_the_empty_part_of_a_replica():
    gan = make_gan(compile_arguments=EAGER)
    results = gan.test_on_batch(IMAGES, LABELS, return_dict=True)
    gan.test_step(gan.check_batch((IMAGES[:0], LABELS[:0])))
    assert {name: float(value) for name, value in gan.get_metrics_result().items() if name in results} == results


def test_evaluate_draws_new_latents_for_each_batch():
    gan = make_gan(compile_arguments=EAGER)
    fakes = []
    for batch in [(IMAGES, LABELS)] * 2:
        fakes.append(float(gan.test_step(gan.check_batch(batch))["fake_logit"]) * (len(fakes) + 1))
    assert fakes[1] - fakes[0] != pytest.approx(fakes[0])


@pytest.mark.slow
def test_evaluate_makes_one_batch_per_batch_when_several_steps_run_per_call():
    gan = make_gan(compile_arguments=dict(steps_per_execution=2, **EAGER))
    plain = make_gan(compile_arguments=EAGER)
    plain.set_weights(gan.get_weights())
    data = make_data(4, 3)
    assert gan.evaluate(data, verbose=0) == plain.evaluate(data, verbose=0)


@pytest.mark.slow
def test_validation_data_does_not_change_training():
    runs = []
    for validation in (None, make_images(2).skip(1)):
        gan = make_small("float32", loss="hinge", **EAGER)
        history = fit(gan, make_images(1), epochs=2, validation_data=validation)
        runs.append(state(gan))
    assert_equal(*runs)
    assert len(history["val_d_loss"]) == 2 and "val_r1" not in history and "val_g_gradient_norm" not in history


@pytest.mark.slow
def test_batches_by_hand_are_those_of_fit_and_evaluate():
    runs = []
    for train in (lambda gan: gan.train_on_batch(IMAGES, LABELS), lambda gan: fit(gan, make_data(4, 1))):
        keras.utils.set_random_seed(0)
        gan = make_gan(compile_arguments=EAGER)
        train(gan)
        runs.append(state(gan))
    assert_equal(*runs)
    assert gan.test_on_batch(IMAGES.numpy(), LABELS.numpy()) == gan.evaluate(make_data(4, 1), verbose=0)
    gan = make_gan(num_classes=None, compile_arguments=EAGER)
    assert np.isfinite(gan.train_on_batch(IMAGES, return_dict=True)["d_loss"])


@pytest.mark.slow
def test_train_on_batch_traces_once():
    gan, (images,) = make_small("float32"), make_images(1)
    for _ in range(2):
        gan.train_on_batch(images)
    assert gan.traced_function.experimental_get_tracing_count() == 1 and int(gan.step) == 2


def test_predict_and_call_generate_by_the_averaged_generator(capsys):
    gan = make_gan(ema_decay=0.5, compile_arguments=EAGER)
    fit(gan, make_data(4, 1))
    latent, label = np.random.default_rng(0).normal(size=(4, 128)).astype("float32"), np.arange(4) % 3
    images = gan.ema_generator([latent, label], training=False)
    np.testing.assert_array_equal(gan([latent, label]), images)
    np.testing.assert_allclose(gan.predict([latent, label], batch_size=2, verbose=0), images, atol=1e-6)
    gan.summary()
    out, kinds = capsys.readouterr().out, (gan.trainable_weights, gan.non_trainable_weights)
    counts = [sum(weight.numpy().size for weight in weights) for weights in kinds]
    assert "discriminator" in out and sum(counts) == gan.count_params()
    assert all(f"rainable params: {count:,}" in out for count in counts)
    with pytest.raises(ValueError, match=r"takes \[latent, label\], .* Received: 2 arguments"):
        gan(latent, label)
    for wrong in (latent, [latent, np.eye(3)[label]], IMAGES, [latent]):
        with pytest.raises(ValueError, match=r"generates images from \[latent \(B, 128\), label \(B,\) in 0 .. 2\]"):
            gan(wrong)
    with pytest.raises(ValueError, match=r"from latent \(B, 128\)\. Received"):
        make_gan(num_classes=None)([latent, label])


def test_call_generates_no_images_where_a_replica_gets_none():
    gan = make_gan(attention_sizes=(16,), compile_arguments=EAGER)
    latent, label = np.random.default_rng(0).normal(size=(2, 128)).astype("float32"), np.arange(2)
    with mock.patch.object(SAGAN, "distribute_strategy", types.SimpleNamespace(num_replicas_in_sync=2)):
        assert gan([latent[:0], label[:0]]).shape == (0, 32, 32, 3)
        images = [call([latent, label]) for call in (gan, tf.function(gan))]
    for one in images:
        np.testing.assert_allclose(one, gan([latent, label]), atol=1e-6)


def test_export_writes_the_averaged_generator(tmp_path):
    gan = make_gan(compile_arguments=EAGER)
    gan.ema_generator.get_layer("output_conv").layer.bias.assign([0.1, 0.2, 0.3])
    latent, label = np.random.default_rng(0).normal(size=(2, 128)).astype("float32"), np.int32([0, 2])
    gan.export(str(tmp_path / "model"), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    np.testing.assert_allclose(loaded.serve([latent, label]), gan([latent, label]), atol=1e-6)


@pytest.mark.parametrize("name", ["generator", "discriminator"])
@pytest.mark.parametrize("share_fake_batch", [False, True])
def test_regularizers_of_a_network_are_part_of_its_loss(name, share_fake_batch):
    weights = []
    for factor in (0.0, 0.5):
        keras.utils.set_random_seed(0)
        gan = make_gan(rate=0.1, compile_arguments=dict(share_fake_batch=share_fake_batch, **EAGER))
        rate = {"generator": 0.1, "discriminator": 0.4}[name]
        kernel = getattr(gan, name).trainable_variables[0]
        kernel.regularizer, before = keras.regularizers.L2(factor), np.array(kernel)
        gan.train_on_batch(IMAGES, LABELS)
        weights.append(np.array(kernel))
    np.testing.assert_allclose(weights[1] - weights[0], -rate * 2 * 0.5 * before, atol=1e-5)


def test_frozen_network_is_saved_and_loaded(tmp_path):
    gan = make_gan(compile_arguments=EAGER)
    gan.discriminator.trainable = False
    gan.save(tmp_path / "gan.keras")
    loaded = keras.models.load_model(tmp_path / "gan.keras")
    assert not loaded.discriminator.trainable_weights and loaded.generator.trainable_weights
    assert_equal([np.array(weight) for weight in loaded.weights], [np.array(weight) for weight in gan.weights])


@pytest.mark.parametrize("policy", ["float64", "bfloat16"])
@pytest.mark.parametrize("options", [dict(lecam_weight=0.3, lecam_start_step=1), dict(ada_target=0.6)], ids=str)
def test_running_means_are_float32_under_any_global_policy(policy, options):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        gan = make_gan(compile_arguments=dict(**options, **EAGER))
        assert np.isfinite(gan.train_on_batch(IMAGES, LABELS, return_dict=True)["d_loss"])
    finally:
        keras.config.set_dtype_policy(before)


def test_compile_takes_names_of_optimizers():
    gan = make_gan()
    gan.compile("adam", "sgd", **EAGER)
    fit(gan, make_data(4, 1))
    assert isinstance(gan.generator_optimizer, keras.optimizers.Adam)
    gan.compile("adam", "adam")
    assert gan.generator_optimizer is not gan.discriminator_optimizer
    optimizer = keras.optimizers.Adam()
    with pytest.raises(ValueError, match="optimizer of its own"):
        gan.compile(optimizer, optimizer)


WRONG = {
    "class_weight": (dict(x=IMAGES.numpy(), y=LABELS.numpy(), class_weight={0: 1.0, 1: 2.0, 2: 1.0}), "class_weight"),
    "sample_weight": (dict(x=IMAGES.numpy(), y=LABELS.numpy(), sample_weight=np.ones(4)), "sample_weight"),
    "one-hot": (dict(x=IMAGES.numpy(), y=np.eye(3)[LABELS]), "argmax"),
    "no labels": (dict(x=IMAGES.numpy()), "must give"),
    "list": (dict(x=[IMAGES.numpy(), LABELS.numpy()]), "must give"),
    "size": (dict(x=np.zeros((4, 64, 64, 3), "float32"), y=LABELS.numpy()), "as the networks"),
    "integers": (dict(x=make_data(4, 1).map(lambda x, y: (tf.cast(x > 0, tf.uint8), y))), "Images must be floats"),
}


@pytest.mark.parametrize("name", WRONG)
def test_fit_rejects_what_a_gan_cannot_use(name):
    arguments, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        make_gan(compile_arguments=EAGER).fit(**arguments, shuffle=False, verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("compile_arguments", [EAGER, dict(jit_compile=True)])
def test_fit_rejects_images_out_of_range(compile_arguments):
    gan, images = make_small("float32", loss="hinge", **compile_arguments), IMAGES[:, ::8, ::8]
    for image, message in (
        ((images + 1) * 127.5, "Scale 0..255 by `image / 127.5 - 1`"),
        (images * np.nan, "must be in"),
        ((images + 1) / 2, "2 \\* image - 1"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            gan.fit(image.numpy(), verbose=0)
    assert int(gan.step) == 0
    gan.step.assign(1)  # A bright batch later in a run is possible.
    gan.check_batch((images + 1) / 2)


@pytest.mark.parametrize("as_dataset", [False, True])
def test_fit_and_evaluate_refuse_bright_images_also_later_in_a_run(as_dataset):
    gan = make_gan(compile_arguments=EAGER)
    gan.step.assign(7)
    bright = ((IMAGES.numpy() + 1) / 2, LABELS.numpy())
    data = [tf.data.Dataset.from_tensor_slices(bright).batch(2)] if as_dataset else bright
    for method in (gan.fit, gan.evaluate):
        with pytest.raises(ValueError, match=r"Scale it by `2 \* image - 1`"):
            method(*data, verbose=0)
    assert int(gan.step) == 7


@pytest.mark.slow
def test_second_batch_of_other_size_is_refused_by_its_shape():
    gan, (images,) = make_small("float32"), make_images(1)
    gan.compile("sgd", "sgd")
    gan.test_on_batch(images)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"not compatible with expected shape"):
        gan.test_on_batch(images[:, :2, :2])


def test_check_batch_takes_labels_as_columns():
    image, label = make_gan().check_batch((IMAGES, LABELS[:, None]))
    np.testing.assert_array_equal(label, LABELS)


@pytest.mark.slow
def test_epochs_with_callbacks_of_keras(tmp_path):
    gan = make_small("float32", **EAGER)
    gan.compile(keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(1e-3, 1, 0.5)), "sgd", **EAGER)
    callbacks = [
        keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
        keras.callbacks.ModelCheckpoint(str(tmp_path / "best.keras"), "val_d_loss", save_best_only=True, mode="min"),
        keras.callbacks.EarlyStopping("val_d_loss", patience=9, mode="min"),
        keras.callbacks.TerminateOnNaN(),
    ]
    if importlib.util.find_spec("tensorboard"):
        callbacks.append(keras.callbacks.TensorBoard(str(tmp_path / "board"), histogram_freq=1))
    images = make_images(2).repeat()
    history = fit(gan, images, epochs=3, steps_per_epoch=2, callbacks=callbacks, validation_data=make_images(1))
    assert len(history["d_loss"]) == 3 and int(gan.step) == 6
    assert float(gan.generator_optimizer.learning_rate) == pytest.approx(1e-3 / 2**6)
    assert (tmp_path / "best.keras").exists()
    assert (tmp_path / "board").exists() == bool(importlib.util.find_spec("tensorboard"))


def test_fit_puts_the_averages_of_optimizers_in_place_of_the_weights():
    """As Keras does with `use_ema`: with much momentum, those of the first step nearly stay."""

    def kernel_after(steps, momentum):
        gan = make_small("float32", **EAGER)
        options = dict(learning_rate=0.1, use_ema=True, ema_momentum=momentum)
        gan.compile(keras.optimizers.SGD(**options), keras.optimizers.SGD(**options), **EAGER)
        fit(gan, make_images(steps), epochs=1)
        return gan.generator.trainable_variables[0].numpy()

    first = kernel_after(1, 0.999)
    changes = [np.abs(kernel_after(3, momentum) - first).max() for momentum in (0.0, 0.999)]
    assert 0 < changes[1] < 0.1 * changes[0]


@pytest.mark.slow
def test_callbacks_of_keras_set_both_learning_rates(tmp_path):
    gan = make_small("float32", **EAGER)
    gan.compile(keras.optimizers.SGD(0.01), keras.optimizers.SGD(0.04), **EAGER)
    callbacks = [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),
        keras.callbacks.ReduceLROnPlateau("d_loss", factor=0.1, patience=1, min_delta=100, mode="min"),
        keras.callbacks.BackupAndRestore(str(tmp_path)),
    ]
    fit(gan, make_images(1), epochs=2, callbacks=callbacks)
    # Halved in both epochs; the first plateau is that of the second epoch.
    assert float(gan.generator_optimizer.learning_rate) == pytest.approx(0.01 / 4 / 10)
    assert float(gan.discriminator_optimizer.learning_rate) == pytest.approx(0.04 / 4 / 10)


def test_sagan_accepts_bright_first_batch_when_told_so():
    gan = make_gan(compile_arguments=EAGER)
    gan.accepts_bright_batches = True
    gan.train_on_batch(abs(IMAGES), LABELS)
    assert int(gan.step) == 1
