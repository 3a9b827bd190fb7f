"""Inversion finds the latents and classes of generated images."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

import sagan_tf
from sagan_tf.generation.folding import fold_generator
from sagan_tf.generation.pixels import to_levels
from sagan_tf.networks import build_discriminator
from sagan_tf.networks.blocks import LayerStyle

CLASSES, DIMENSIONS = 3, 6
GIVEN = pytest.param(True, marks=pytest.mark.slow, id="labels and discriminator")


@pytest.fixture(scope="module")
def folded():
    """Of 8 x 16 px, with random weights."""
    style = LayerStyle(num_classes=CLASSES)
    latent, label = keras.Input((DIMENSIONS,)), keras.Input((), dtype="int32")
    x = keras.layers.Reshape((4, 8, 8))(style.dense(256, "dense")(latent))
    x = style.relu(style.normalize(x, label, "norm"), "relu")
    image = keras.layers.Activation("tanh")(style.convolution(3, 3, "conv", resampling="up")(x))
    generator, rng = keras.Model([latent, label], image), np.random.default_rng(0)
    for name in ("gamma", "beta"):
        table = getattr(generator.get_layer("norm"), name)
        table.assign(rng.uniform(0.2, 1.5, table.shape))
    return fold_generator(generator)


@pytest.mark.parametrize("given", [pytest.param(False, id="pixels"), GIVEN])
def test_invert_recovers_latents_and_classes(folded, given):
    rng = np.random.default_rng(1)
    latents, labels = np.float32(rng.standard_normal((3, DIMENSIONS))), np.int32([0, 1, 2])
    images = to_levels(folded.model([latents, labels]).numpy())
    options = {}
    if given:
        picture = keras.Input((8, 16, 3))
        features = keras.layers.Conv2D(4, 3, activation="relu", name="output_relu")(picture)
        options = {"labels": labels, "discriminator": keras.Model(picture, features)}
    found = sagan_tf.invert(folded, images, steps=60, restarts=2, show_progress=False, **options)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.class_weights, np.eye(CLASSES)[labels])
    assert (np.linalg.norm(found.latents - latents, axis=1) < 0.02 * np.linalg.norm(latents, axis=1)).all()
    rows = found.class_weights @ folded.class_rows.numpy()
    again = to_levels(folded.body([found.latents, rows])["image"].numpy())
    np.testing.assert_allclose(again, np.float32(found.images), atol=1)
    error = np.mean((np.float64(found.images) - images) ** 2, axis=(1, 2, 3))
    with np.errstate(divide="ignore"):  # where the image is reproduced exactly
        np.testing.assert_allclose(found.psnr, 10 * np.log10(255**2 / error))
    assert found.psnr.min() > 55


def test_invert_finds_a_mixture_of_classes(folded):
    weights = np.float32([[0.6, 0.4, 0.0], [0.1, 0.3, 0.6]])
    latents = np.float32(np.random.default_rng(2).standard_normal((2, DIMENSIONS)))
    images = to_levels(folded.body([latents, weights @ folded.class_rows.numpy()])["image"].numpy())
    found = sagan_tf.invert(folded, images, steps=100, restarts=2, show_progress=False)
    np.testing.assert_allclose(found.class_weights, weights, atol=0.1)
    coarse = sagan_tf.invert(folded, images, steps=100, restarts=2, refinements=0, show_progress=False)
    np.testing.assert_allclose(coarse.class_weights, found.class_weights, atol=1e-6)  # refinement holds them
    assert found.psnr.sum() > coarse.psnr.sum() and found.psnr.min() > 40


def test_invert_rejects_what_does_not_fit(folded):
    images = np.zeros((2, 8, 16, 3), np.uint8)
    for arguments, options in (
        ((images,), {"refinements": -1}),
        ((images,), {"refinements": 1.0}),
        ((images[:, :4],), {}),
        ((images[:0],), {}),
        ((images, [0, 1, 1]), {}),
        ((images, [0, CLASSES]), {}),
        ((images,), {"steps": 0}),
        ((images,), {"steps": 2.5}),
        ((images,), {"steps": True}),
        ((images,), {"seed": 2**63 - 1}),
        ((images, None, build_discriminator(32, num_classes=None, channels=1, attention_sizes=())), {}),
        ((images,), {"learning_rate": 0.0}),
        ((images,), {"learning_rate": np.inf}),
        ((images,), {"feature_weight": -1.0}),
        ((images, [0.5, 1.5]), {}),
        ((images + np.float32(2),), {}),
        ((images + np.int64(200),), {"steps": 1, "restarts": 1}),  # was white
        ((images * np.float32(np.nan),), {}),
    ):
        with pytest.raises(ValueError, match="Received: "):
            sagan_tf.invert(folded, *arguments, **options)


def test_invert_takes_names_of_classes_and_names_other_arguments(folded):
    images = np.zeros((2, 8, 16, 3), np.uint8)
    named = SimpleNamespace(model=folded, class_names=("cat", "dog", "owl"))
    found = sagan_tf.invert(named, images, ["owl", "cat"], steps=1, restarts=1, refinements=0, show_progress=False)
    np.testing.assert_array_equal(found.labels, [2, 0])
    found = sagan_tf.invert(named, images, "dog", steps=1, restarts=1, refinements=0, show_progress=False)
    np.testing.assert_array_equal(found.labels, [1, 1])
    with pytest.raises(ValueError, match="There is no class `owls`. Did you mean `owl`?"):
        sagan_tf.invert(named, images, ["owl", "owls"])
    with pytest.raises(ValueError, match="There is no class `cat`. The generator does not name its classes."):
        sagan_tf.invert(folded, images, "cat")
    for discriminator in ("runs/cats", folded.model):
        with pytest.raises(TypeError, match="`discriminator` must be a network of `build_discriminator`. Received: "):
            sagan_tf.invert(folded, images, discriminator=discriminator)
    with pytest.raises(TypeError, match="or what `load_run` returns. Received: 'runs/cats'"):
        sagan_tf.invert("runs/cats", images)


def test_invert_warns_of_images_that_are_not_scaled(folded):
    with pytest.warns(UserWarning, match="are all in \\[0, 1\\], taken for bright ones"):
        sagan_tf.invert(folded, np.full((1, 8, 16, 3), 0.5), steps=1, restarts=1, refinements=0, show_progress=False)
