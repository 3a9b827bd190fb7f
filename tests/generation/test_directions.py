"""Directions of the latent space: the singular vectors of the first layer, named after what they change."""

import keras
import numpy as np
import pytest
from export.generators import LATENT_DIM, make_toy_generator

from sagan_tf.generation.directions import name_directions, principal_directions
from sagan_tf.generation.folding import FoldedGenerator, fold_generator


def test_principal_directions_are_singular_vectors_of_the_first_kernel():
    generator = make_toy_generator()
    kernel = generator.get_layer("dense").layer.kernel  # spectral normalization divides it by a number
    directions = principal_directions(fold_generator(generator), 4)
    assert directions.dtype == np.float32
    np.testing.assert_allclose(np.float64(directions) @ directions.T, np.eye(4), atol=1e-6)
    vectors = np.linalg.svd(np.float64(kernel.numpy()))[0].T[:4]
    vectors *= np.sign([max(row, key=abs) for row in vectors])[:, None]
    np.testing.assert_allclose(directions, vectors, atol=1e-5)
    kernel.assign(-kernel)
    folded = fold_generator(generator)
    np.testing.assert_allclose(principal_directions(folded, 4), directions, atol=1e-6)
    assert len(principal_directions(folded, 99)) == LATENT_DIM


@pytest.mark.parametrize("count", [0, -1, 2.5])
def test_principal_directions_rejects_other_counts(count):
    with pytest.raises(ValueError, match="`count` must be an integer >= 1"):
        principal_directions(None, count)


def test_directions_are_named_after_what_they_change():
    latent = keras.Input((4,))

    # Entry 0 is brightness, 1 moves a bar down, 2 reddens; 3 does nothing.
    def paint(z):
        rows = keras.ops.linspace(-1.0, 1.0, 16)[None, :, None, None]
        bar = keras.ops.exp(-20 * (rows - 0.2 * z[:, 1, None, None, None]) ** 2)
        base = 0.1 * z[:, 0, None, None, None] + keras.ops.tile(bar, (1, 1, 16, 3)) - 0.5
        return base - 0.1 * z[:, 2, None, None, None] * keras.ops.array([-1.0, 0.0, 1.0])

    model = keras.Model(latent, keras.layers.Lambda(paint, output_shape=(16, 16, 3))(latent))
    folded = FoldedGenerator(model, keras.Model(latent, {"image": model.output}), None)
    directions = np.float32([[-1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]])
    names, turned = name_directions(folded, directions)
    assert names == ["brightness", "direction 2", "top to bottom", "red to blue"]
    np.testing.assert_array_equal(turned, directions * [[-1], [1], [1], [-1]])
