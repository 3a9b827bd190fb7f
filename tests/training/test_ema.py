"""The averaged generator against the closed form of an exponential moving average."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from toy_networks import toy_generator

from sagan_tf.layers import spectral_normalizations
from sagan_tf.training.ema import AveragedGenerator


def test_averaged_generator_has_the_closed_form_after_its_start():
    generator = toy_generator(num_classes=2)
    average = AveragedGenerator(generator, decay=0.9, start_step=3)
    rng = np.random.default_rng(0)
    seen = []
    for step in range(8):
        for weight in generator.weights:
            weight.assign(rng.normal(size=weight.shape))
        seen.append({id(w): w.numpy().astype(np.float64) for w in generator.weights})
        average.update(keras.ops.convert_to_tensor(step))
    assert average._pairs
    for mean, weight in average._pairs:
        want = seen[2][id(weight)]  # the third of three copies
        for values in seen[3:]:
            want = 0.9 * want + 0.1 * values[id(weight)]
        np.testing.assert_allclose(mean, want, atol=1e-5)


@pytest.mark.slow
def test_averaged_generator_singular_vectors_follow_its_kernels():
    generator = toy_generator(num_classes=2)
    average = AveragedGenerator(generator, decay=0.5)
    update = tf.function(average.update)
    for step in range(200):
        update(tf.constant(step))
    for layer in spectral_normalizations(average.model).values():
        kernel = layer.layer.kernel.numpy()
        want = np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), 2)
        assert float(layer.sigma()) == pytest.approx(want, rel=1e-2)


def test_averaged_generator_starts_equal():
    generator = toy_generator(num_classes=None)
    average = AveragedGenerator(generator, decay=0.9)
    latent = np.random.default_rng(0).normal(size=(2, 128)).astype("float32")
    np.testing.assert_array_equal(average.model(latent), generator(latent))


def test_averaged_generator_is_trainable_when_loaded(tmp_path):
    generator = toy_generator(num_classes=2)
    AveragedGenerator(generator, decay=0.9).model.save(tmp_path / "generator.keras")
    loaded = keras.models.load_model(tmp_path / "generator.keras")
    assert [w.shape for w in loaded.trainable_weights] == [w.shape for w in generator.trainable_weights]
    x = [np.ones((2, 128), "float32"), np.array([0, 1])]
    before = [w.numpy() for w in loaded.weights]
    loaded(x, training=True)
    moved = [w.path for w, old in zip(loaded.weights, before) if not np.array_equal(w, old)]
    assert any("moving_mean" in path for path in moved)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_averaged_generator_rejects_a_decay_out_of_range(decay):
    with pytest.raises(ValueError, match="decay"):
        AveragedGenerator(toy_generator(num_classes=None), decay)


def test_averaged_generator_copies_whole_numbers():
    latent = keras.Input((3,))
    generator = keras.Model(latent, keras.layers.Normalization()(latent))
    average = AveragedGenerator(generator, decay=0.9)
    counts = [weight for weight in generator.weights if "int" in weight.dtype]
    for count in counts:
        count.assign(7)
    average.update(keras.ops.convert_to_tensor(5))
    assert counts and [int(w) for w in average.model.weights if "int" in w.dtype] == [7] * len(counts)
