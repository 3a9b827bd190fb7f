"""Standing statistics are means over batches; nothing else changes."""

import keras
import numpy as np
import pytest

from sagan_tf.evaluation.standing_statistics import batch_normalizations, set_standing_statistics
from sagan_tf.networks import build_generator


@pytest.mark.slow
@pytest.mark.parametrize("frozen", ["nothing", "all", "a normalization"])
def test_standing_statistics_change_only_to_means_over_batches(frozen):
    generator = build_generator(image_size=32, channels=4, num_classes=3, latent_dim=8, attention_sizes=(16,))
    generator.trainable = frozen != "all"
    first, *_, last = batch_normalizations(generator)
    last.trainable = frozen == "nothing"
    flags = [layer.trainable for layer in generator._flatten_layers()]
    before = {weight.path: weight.numpy() for weight in generator.weights}
    momenta = [layer.momentum for layer in batch_normalizations(generator)]
    set_standing_statistics(generator, 3, batches=4, batch_size=16, seed=5)
    assert [layer.momentum for layer in batch_normalizations(generator)] == momenta
    assert [layer.trainable for layer in generator._flatten_layers()] == flags
    moved = {path for path, value in before.items() if not np.array_equal(value, by_path(generator)[path])}
    assert moved == {path for path in before if "moving_" in path} and len(moved) == 2 * len(momenta)
    # Input of the first normalization: the feature map before it, of the same latents.
    rng = np.random.Generator(np.random.Philox(key=[5, 2]))
    holder = next(layer for layer in generator.layers if getattr(layer, "normalization", layer) is first)
    feature_map = holder.input[0] if isinstance(holder.input, list) else holder.input
    until = keras.Model(generator.inputs, feature_map)
    means, variances = [], []
    for _ in range(4):
        latent, label = rng.standard_normal((16, 8), dtype=np.float32), rng.integers(3, size=16, dtype=np.int32)
        seen = np.asarray(until([latent, label], training=False))
        means.append(seen.mean(axis=(0, 1, 2)))
        variances.append(seen.var(axis=(0, 1, 2)))
    # A training call of spectral normalization makes another power iteration, which is reverted.
    np.testing.assert_allclose(first.moving_mean, np.mean(means, axis=0), rtol=0.5, atol=0.3)
    shares = np.asarray(first.moving_variance) / np.mean(variances, axis=0)
    assert shares.std() / shares.mean() < 1e-3


def by_path(generator):
    return {weight.path: weight.numpy() for weight in generator.weights}
