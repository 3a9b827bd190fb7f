"""ConditionalBatchNormalization against NumPy float64, and its tables under Adam."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_contract import CONTRACT, Subject
from layers.spectral_oracle import relative_error

from sagan_tf.layers import ConditionalBatchNormalization, spectral_normalizations

LABELS = np.array([0, 1, 1, 2, 0, 1], "int32")


def built(shape=(6, 5, 4, 3), dtype="float32", **arguments):
    layer, rng = ConditionalBatchNormalization(3, dtype=dtype, **arguments), np.random.default_rng(0)
    layer.build([shape, (shape[0],)])
    layer.gamma.assign(rng.normal(size=layer.gamma.shape))
    layer.beta.assign(rng.normal(size=layer.beta.shape))
    return layer


def feature_map(seed=1, shape=(6, 5, 4, 3)):
    return np.random.default_rng(seed).normal(2, 3, shape).astype("float32")


def oracle(layer, x, label, mean, variance):
    """The formula, with one row of the tables for each image."""
    gamma, beta = (table.numpy().astype(np.float64)[label] for table in (layer.gamma, layer.beta))
    normalized = (x.astype(np.float64) - mean) / np.sqrt(variance + layer.epsilon)
    return np.array([gamma[i] * image + beta[i] for i, image in enumerate(normalized)])


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_conditional_batch_normalization_meets_contract(check, tmp_path):
    subject = Subject(
        make=lambda dtype: ConditionalBatchNormalization(3, momentum=0.8, epsilon=1e-3, dtype=dtype),
        inputs=[feature_map(), LABELS],
        output_shape=(6, 5, 4, 3),
        trainable=2 * 3 * 3,
        non_trainable=2 * 3,
    )
    check(subject, tmp_path)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (6, 7, 3), (6, 3), (6, 2, 3, 2, 3)])
def test_conditional_batch_normalization_training_call_matches_numpy(shape, dtype, tolerance):
    layer = built(shape, dtype, momentum=0.9, epsilon=1e-3)
    axes = tuple(range(len(shape) - 1))
    moving_mean, moving_variance = np.zeros(3), np.ones(3)
    for seed in range(3):
        x = feature_map(seed, shape)
        mean, variance = x.astype(np.float64).mean(axes), x.astype(np.float64).var(axes)
        output = layer([x, LABELS], training=True)
        assert relative_error(output, oracle(layer, x, LABELS, mean, variance)) < tolerance
        moving_mean = 0.9 * moving_mean + 0.1 * mean
        moving_variance = 0.9 * moving_variance + 0.1 * variance
        assert relative_error(layer.normalization.moving_mean, moving_mean) < tolerance
        assert relative_error(layer.normalization.moving_variance, moving_variance) < tolerance
    for training in (False, None):
        want = oracle(layer, x, LABELS, moving_mean, moving_variance)
        assert relative_error(layer([x, LABELS], training=training), want) < tolerance


@pytest.mark.parametrize("training", [False, True])
def test_conditional_batch_normalization_accepts_labels_as_column(training):
    layer, x = built(), feature_map()
    outputs = [layer([x, label], training=training) for label in (LABELS[:, None], LABELS)]
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64"])
def test_conditional_batch_normalization_accepts_labels_of_any_integer_type(dtype):
    layer, x = built(), feature_map()
    np.testing.assert_array_equal(layer([x, LABELS.astype(dtype)]), layer([x, LABELS]))


def test_conditional_batch_normalization_takes_maps_of_integers():
    layer, whole, labels = ConditionalBatchNormalization(3), np.arange(24).reshape(2, 2, 2, 3), np.array([0, 2])
    for training in (False, True):
        np.testing.assert_array_equal(
            layer([whole, labels], training=training), layer([np.float32(whole), labels], training=training)
        )


def test_conditional_batch_normalization_rejects_labels_that_are_no_integers():
    with pytest.raises(ValueError, match="Labels must be integers. Received: float32."):
        built()([feature_map(), LABELS.astype("float32")])


def test_conditional_batch_normalization_infers_each_image_independently():
    layer, x = built(), feature_map()
    layer([x, LABELS], training=True)
    together = layer([x, LABELS])
    for i in range(6):
        np.testing.assert_allclose(layer([x[i : i + 1], LABELS[i : i + 1]])[0], together[i], atol=1e-5)


def test_conditional_batch_normalization_starts_as_the_plain_layer():
    x, layer, plain = feature_map(), ConditionalBatchNormalization(3), keras.layers.BatchNormalization(epsilon=1e-5)
    for training in (True, False):
        np.testing.assert_allclose(layer([x, LABELS], training=training), plain(x, training=training), atol=1e-5)


def gradient_of_gamma(layer, x, label):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer([x, label], training=True) ** 3)
    return tape.gradient(loss, layer.gamma.value)


def test_conditional_batch_normalization_gradient_sums_repeated_labels():
    layer, x = built(), feature_map()
    gradient = gradient_of_gamma(layer, x, LABELS)
    assert isinstance(gradient, tf.Tensor)  # not tf.IndexedSlices
    normalized = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    output = np.array(layer([x, LABELS], training=True))
    of_images = np.sum(3 * output**2 * normalized, axis=(1, 2))
    want = np.array([of_images[LABELS == label].sum(axis=0) for label in range(3)])
    assert relative_error(gradient, want) < 1e-4


def test_conditional_batch_normalization_adam_step_sums_repeated_labels():
    layer, x = built(), feature_map()
    other = keras.Variable(layer.gamma.numpy())
    optimizer, other_optimizer = (keras.optimizers.Adam(0.01, beta_1=0.5, beta_2=0.9) for _ in range(2))
    want = layer.gamma.numpy().astype(np.float64)
    mean, square = np.zeros_like(want), np.zeros_like(want)
    for step in range(1, 6):
        gradient = gradient_of_gamma(layer, x, np.roll(LABELS, step) % (2 + step % 2))  # class 2 is sometimes absent
        optimizer.apply([gradient], [layer.gamma])
        g = np.array(gradient, np.float64)
        mean, square = 0.5 * mean + 0.5 * g, 0.9 * square + 0.1 * g**2
        want -= 0.01 * mean / (1 - 0.5**step) / (np.sqrt(square / (1 - 0.9**step)) + 1e-7)
        # Control: each sum in two parts, as in the gradient of a plain lookup.
        parts = tf.concat([0.25 * gradient, 0.75 * gradient], axis=0)
        parts = tf.IndexedSlices(parts, tf.constant([0, 1, 2, 0, 1, 2]), tf.constant([3, 3]))
        other_optimizer.apply([parts], [other])
    np.testing.assert_allclose(layer.gamma, want, atol=1e-5)
    assert np.abs(other.numpy() - want).max() > 1e-3  # so this test detects the difference


def test_conditional_batch_normalization_keeps_row_of_absent_class():
    layer, x = built(), feature_map()
    before = layer.gamma.numpy()
    gradient = gradient_of_gamma(layer, x, np.zeros(6, "int32"))
    keras.optimizers.Adam(0.01).apply([gradient], [layer.gamma])
    moved = (layer.gamma.numpy() != before).any(axis=1)
    np.testing.assert_array_equal(moved, [True, False, False])


def test_conditional_batch_normalization_tables_have_no_spectral_norm():
    layer, x = built(), feature_map()
    layer.beta.assign(np.zeros((3, 3)))
    once = layer([x, LABELS], training=True)
    layer.gamma.assign(layer.gamma * 10)
    np.testing.assert_allclose(layer([x, LABELS], training=True), 10 * once, rtol=1e-5, atol=1e-5)
    assert spectral_normalizations(layer) == {}


@pytest.mark.parametrize("synchronized", [None, True, False])
def test_conditional_batch_normalization_passes_on_synchronized(synchronized):
    layer = ConditionalBatchNormalization(3, synchronized=synchronized)
    assert layer.normalization.synchronized is (synchronized is not False)
    assert layer.get_config()["synchronized"] is synchronized


@pytest.mark.parametrize("num_classes", [0, -1, 2.5, True])
def test_conditional_batch_normalization_rejects_bad_class_counts(num_classes):
    with pytest.raises(ValueError) as error:
        ConditionalBatchNormalization(num_classes)
    assert str(error.value) == f"`num_classes` must be an integer >= 1. Received: num_classes={num_classes}."


@pytest.mark.parametrize("labels", [1, 3])
def test_conditional_batch_normalization_rejects_another_number_of_labels(labels):
    """One label would otherwise be taken for all images."""
    with pytest.raises(ValueError, match=f"Received: 2 feature maps, {labels} labels"):
        ConditionalBatchNormalization(3)([np.zeros((2, 4, 4, 3), "float32"), np.zeros(labels, "int32")])


def test_conditional_batch_normalization_takes_labels_of_unknown_rank():
    layer, x = built(), feature_map()
    specs = tf.TensorSpec((None, 5, 4, 3)), tf.TensorSpec(None, tf.int32)
    outputs = tf.function(lambda x, labels: layer([x, labels]), input_signature=specs)(x, LABELS)
    np.testing.assert_allclose(outputs, layer([x, LABELS]), rtol=1e-5, atol=1e-6)


def test_conditional_batch_normalization_rejects_one_hot_labels():
    with pytest.raises(ValueError, match="argmax.one_hot, axis=-1.` of one-hot labels"):
        ConditionalBatchNormalization(3)([keras.Input((4, 4, 3)), keras.Input((3,), dtype="int32")])


@pytest.mark.parametrize("shape", [(2, 4, 4, 3), [(2, 4, 4, 3)], [(2,), (2,)]])
def test_conditional_batch_normalization_rejects_bad_inputs(shape):
    with pytest.raises(ValueError) as error:
        ConditionalBatchNormalization(3).build(shape)
    assert str(error.value) == (
        f"`ConditionalBatchNormalization` takes a list of a feature map and its labels. Received: input_shape={shape}."
    )
