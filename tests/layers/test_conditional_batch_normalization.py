"""ConditionalBatchNormalization against NumPy, and its gradients under Adam."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from sagan_tf.layers import ConditionalBatchNormalization


def built(num_classes=3, channels=4, **arguments):
    layer = ConditionalBatchNormalization(num_classes, **arguments)
    layer.build([(None, 5, 5, channels), (None,)])
    rng = np.random.default_rng(0)
    layer.gamma.assign(rng.normal(size=layer.gamma.shape))
    layer.beta.assign(rng.normal(size=layer.beta.shape))
    return layer


def test_training_output_and_moving_statistics_match_numpy():
    layer = built(momentum=0.9, epsilon=1e-3)
    x = np.random.default_rng(1).normal(2, 3, (6, 5, 5, 4)).astype("float32")
    label = np.array([0, 1, 1, 2, 0, 1])
    got = layer([x, label], training=True)
    mean, variance = x.astype(np.float64).mean((0, 1, 2)), x.astype(np.float64).var((0, 1, 2))
    gamma, beta = (table.numpy()[label][:, None, None] for table in (layer.gamma, layer.beta))
    np.testing.assert_allclose(got, gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta, atol=1e-4)
    np.testing.assert_allclose(layer.normalization.moving_mean, 0.1 * mean, atol=1e-5)
    np.testing.assert_allclose(layer.normalization.moving_variance, 0.9 + 0.1 * variance, atol=1e-4)
    inference = layer([x, label[:, None]], training=False)
    want = gamma * (x - 0.1 * mean) / np.sqrt(0.9 + 0.1 * variance + 1e-3) + beta
    np.testing.assert_allclose(inference, want, atol=1e-4)


def test_starts_as_plain_batch_normalization():
    x = np.random.default_rng(1).normal(size=(6, 5, 5, 4)).astype("float32")
    plain = keras.layers.BatchNormalization(epsilon=1e-5)
    got = ConditionalBatchNormalization(3)([x, np.arange(6) % 3], training=True)
    np.testing.assert_allclose(got, plain(x, training=True), atol=1e-5)


def test_adam_treats_a_repeated_label_as_one_sum():
    layer = built()
    x = np.random.default_rng(1).normal(size=(4, 5, 5, 4)).astype("float32")
    label = np.array([1, 1, 1, 2])
    optimizer = keras.optimizers.Adam(0.1, beta_1=0.0, beta_2=0.9)
    optimizer.build([layer.gamma])
    before = layer.gamma.numpy().astype(np.float64)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer([x, label], training=True) ** 3)
    gradient = tape.gradient(loss, layer.gamma.value)
    assert isinstance(gradient, tf.Tensor)  # and not IndexedSlices, whose rows Keras' Adam squares one by one
    optimizer.apply([gradient], [layer.gamma])
    g = gradient.numpy().astype(np.float64)
    want = before - 0.1 * g / (np.sqrt(0.1 * g**2 / (1 - 0.9)) + 1e-7)
    np.testing.assert_allclose(layer.gamma, want, atol=1e-5)


def test_saved_model_computes_the_same(tmp_path):
    inputs = [keras.Input((5, 5, 4)), keras.Input((), dtype="int32")]
    model = keras.Model(inputs, ConditionalBatchNormalization(3, momentum=0.8)(inputs))
    x, label = np.random.default_rng(0).normal(size=(2, 5, 5, 4)).astype("float32"), np.array([0, 2], "int32")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    tensors = [tf.constant(x), tf.constant(label)]
    np.testing.assert_array_equal(loaded(tensors), model(tensors))


@pytest.mark.parametrize("num_classes", [0, 2.5, True])
def test_rejects_class_counts_out_of_range(num_classes):
    with pytest.raises(ValueError, match="num_classes"):
        ConditionalBatchNormalization(num_classes)


def test_rejects_a_feature_map_alone():
    with pytest.raises(ValueError, match="its labels"):
        ConditionalBatchNormalization(3).build((2, 4, 4, 3))
