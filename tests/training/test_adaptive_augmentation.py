"""ADA against the published matrices in float64 and SciPy's resampling; its probability is adapted as by hand."""

import math

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import tensorflow as tf
from training.float16 import make_images, make_small
from training.tiny import fit

from sagan_tf.training.adaptive_augmentation import (
    ADA_NORMALS,
    ADA_UNIFORMS,
    TRANSFORMATIONS,
    ada_augment,
    adapt_probability,
)

SYM6 = np.array([
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
])  # fmt: skip
COLOR = TRANSFORMATIONS[8:]


def draw(names, images=2, seed=0):
    """Random numbers, of which those that choose select the transformations of these names at p = 0.5."""
    rng = np.random.default_rng(seed)
    uniforms = rng.uniform(size=(images, ADA_UNIFORMS)).astype("float32")
    uniforms[:, : len(TRANSFORMATIONS)] = [0.1 if name in names else 0.9 for name in TRANSFORMATIONS]
    return uniforms, rng.normal(size=(images, ADA_NORMALS)).astype("float32")


def noise(channels=3, shape=(12, 16)):
    return np.random.default_rng(1).uniform(-1, 1, (2, *shape, channels)).astype("float32")


def translation(x, y):
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])


def rotation(angle):
    return np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])


def published_geometry(names, uniforms, normals, height, width):
    """The matrix G of the paper's appendix B, from places in an image to places in the changed one."""
    u, n, matrix = np.float64(uniforms[len(TRANSFORMATIONS) :]), np.float64(normals), np.eye(3)
    scale, stretch = 2 ** (0.2 * n[0]), 2 ** (0.2 * n[1])
    steps = (
        np.diag([1 - 2 * math.floor(2 * u[0]), 1, 1]),
        rotation(-math.pi / 2 * math.floor(4 * u[1])),
        translation(round((2 * u[2] - 1) * 0.125 * width), round((2 * u[3] - 1) * 0.125 * height)),
        np.diag([scale, scale, 1]),
        rotation(-(2 * u[4] - 1) * math.pi),
        np.diag([stretch, 1 / stretch, 1]),
        rotation(-(2 * u[5] - 1) * math.pi),
        translation(0.125 * n[2] * width, 0.125 * n[3] * height),
    )
    for name, step in zip(TRANSFORMATIONS, steps):
        matrix = step @ matrix if name in names else matrix
    return matrix


def places(matrix, y, x, height, width):
    """Where the pixels of a grid with coordinates y and x are in the image that `matrix` changes: (2, Y, X)."""
    x, y = np.meshgrid(x - (width - 1) / 2, y - (height - 1) / 2)
    source = np.linalg.inv(matrix) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    return (source[[1, 0]] + [[(height - 1) / 2], [(width - 1) / 2]]).reshape(2, *x.shape)


def published_resampling(image, matrix):
    """Reflection, upsampling by sym6, bilinear sampling, low-pass and every second sample, in float64."""
    height, width, _ = image.shape
    pad = 4 * max(height, width)
    h = SYM6 / math.sqrt(2)
    fine = np.pad(np.float64(image), ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    for axis in (0, 1):
        fine = scipy.signal.upfirdn(2 * h, fine, up=2, axis=axis)
    # Sample 2 (pad + j) + 5, at the center of the filter, is that of pixel j.
    grids = [np.arange(-6, 2 * size + 6) / 2 for size in (height, width)]
    where = 2 * (places(matrix, *grids, height, width) + pad) + 5
    taken = [scipy.ndimage.map_coordinates(channel, where, order=1) for channel in np.moveaxis(fine, -1, 0)]
    for axis in (1, 2):
        taken = scipy.signal.upfirdn(h[::-1], taken, down=1, axis=axis)
    return np.moveaxis(taken[:, 12 : 12 + 2 * height : 2, 12 : 12 + 2 * width : 2], 0, -1)


@pytest.mark.parametrize("names", [*((name,) for name in TRANSFORMATIONS[:8]), TRANSFORMATIONS[:8]])
def test_geometry_matches_published_matrix_and_resampling(names):
    images, (uniforms, normals) = noise(), draw(names)
    changed = ada_augment(images, 0.5, uniforms, normals)
    for image, u, n, got in zip(images, uniforms, normals, changed):
        matrix = published_geometry(names, u, n, 12, 16)
        np.testing.assert_allclose(got, published_resampling(image, matrix), atol=2e-5)


def test_geometry_matches_splines_of_scipy_on_a_smooth_image():
    y, x = np.mgrid[:24, :24] / 24
    image = np.stack([np.cos(math.pi * (2 * y + x)), np.sin(3 * x * y), y - x], axis=-1).astype("float32")
    names = TRANSFORMATIONS[:8]
    uniforms, normals = draw(names, images=1)
    matrix = published_geometry(names, uniforms[0], normals[0], 24, 24)
    where = places(matrix, np.arange(24), np.arange(24), 24, 24)
    wanted = [
        scipy.ndimage.map_coordinates(channel, where, order=5, mode="mirror") for channel in np.moveaxis(image, -1, 0)
    ]
    got = ada_augment(image[None], 0.5, uniforms, normals)[0]
    inside = ((where > 3) & (where < 20)).all(axis=0)  # the reflection has a kink at the edges
    assert inside.sum() > 200
    # The filter moves up to a tenth of a pixel, and the slope is at most 0.3 per pixel.
    np.testing.assert_allclose(got[inside], np.stack(wanted, axis=-1)[inside], atol=0.03)


def published_color(names, uniforms, normals):
    """The matrix C of the paper's appendix B on (red, green, blue, 1)."""
    u, n, matrix = np.float64(uniforms[-2:]), np.float64(normals[-3:]), np.eye(4)
    axis = np.array([1, 1, 1, 0]) / math.sqrt(3)
    gray, rgb = np.outer(axis, axis), np.diag([1, 1, 1, 0])
    angle = (2 * u[1] - 1) * math.pi
    cross = np.array([[0, -1, 1, 0], [1, 0, -1, 0], [-1, 1, 0, 0], [0, 0, 0, 0]]) / math.sqrt(3)
    brightness = np.eye(4)
    brightness[:3, 3] = 0.2 * n[0]
    steps = (
        brightness,
        np.diag([*3 * [2 ** (0.5 * n[1])], 1]),
        np.eye(4) - 2 * gray * math.floor(2 * u[0]),
        np.diag([0, 0, 0, 1]) + gray + math.cos(angle) * (rgb - gray) + math.sin(angle) * cross,  # Rodrigues
        gray + (np.eye(4) - gray) @ np.diag([*3 * [2 ** n[2]], 1]),
    )
    for name, step in zip(COLOR, steps):
        matrix = step @ matrix if name in names else matrix
    return matrix


@pytest.mark.parametrize("names", [*((name,) for name in COLOR), COLOR])
def test_color_matches_published_matrix(names):
    images, (uniforms, normals) = noise(), draw(names)
    uniforms[:, -2] = 0.3, 0.7  # the luma of the second is flipped
    changed = ada_augment(images, 0.5, uniforms, normals)
    for image, u, n, got in zip(images, uniforms, normals, changed):
        matrix = published_color(names, u, n)
        np.testing.assert_allclose(got, image @ matrix[:3, :3].T + matrix[:3, 3], atol=1e-5)


def test_color_of_a_gray_image_is_that_of_equal_channels_and_of_others_stays():
    uniforms, normals = draw(COLOR)
    one, two = (noise(channels) for channels in (1, 2))
    changed = ada_augment(np.repeat(one, 3, axis=-1), 0.5, uniforms, normals)
    gray = ada_augment(one, 0.5, uniforms, normals)
    np.testing.assert_allclose(np.repeat(gray, 3, axis=-1), changed, atol=1e-5)
    assert np.abs(gray - one).max() > 0.01
    np.testing.assert_array_equal(ada_augment(two, 0.5, uniforms, normals), two)


def test_image_stays_bit_by_bit_at_p_zero_and_changes_at_p_one():
    rng, images = np.random.default_rng(0), noise()
    uniforms, normals = rng.uniform(size=(2, ADA_UNIFORMS)), rng.normal(size=(2, ADA_NORMALS))
    uniforms[:, : len(TRANSFORMATIONS)] = np.array([0.0, 1 - 2**-24])[:, None]  # the limits of what is drawn
    changed = [ada_augment(images, p, np.float32(uniforms), np.float32(normals)) for p in (0.0, 1.0)]
    np.testing.assert_array_equal(changed[0], images)
    assert np.all(np.abs(changed[1] - images).max(axis=(1, 2, 3)) > 0.1)


def test_image_is_rotated_with_probability_p_by_either_rotation():
    uniforms, _ = draw(())
    image = noise()[:1]
    columns = [TRANSFORMATIONS.index(name) for name in ("rotation_before", "rotation_after")]
    for chance, is_changed in ((0.49, True), (0.51, False)):  # 1 - (1 - 0.5)^2 = 0.75
        uniforms[0, columns] = chance
        got = ada_augment(
            image, 0.75, np.where(uniforms < 0.8, uniforms, 0.9)[:1], np.zeros((1, ADA_NORMALS), "float32")
        )
        assert np.any(got != image) == is_changed


def test_compiled_augmentation_and_its_gradient_match_those_as_they_are():
    images, (uniforms, normals) = noise(shape=(6, 8)), draw(TRANSFORMATIONS)
    weights = noise(shape=(6, 8))[..., ::-1].copy()

    def run(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            changed = ada_augment(images, 0.5, uniforms, normals)
            loss = tf.reduce_sum(changed * weights)
        return changed, tape.gradient(loss, images)

    images = tf.constant(images)
    plain, compiled = run(images), tf.function(run, jit_compile=True, autograph=False)(images)
    for a, b in zip(plain, compiled):
        np.testing.assert_allclose(a, b, atol=1e-4)
    # The changes are affine: the gradient tells how the sum changes when the images become zeros.
    black = ada_augment(tf.zeros_like(images), 0.5, uniforms, normals)
    difference = np.sum((plain[0] - black) * weights)
    np.testing.assert_allclose(np.sum(plain[1] * images), difference, rtol=1e-3)
    assert abs(difference) > 0.1


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_ada_p_moves_by_the_signs_of_four_updates(accumulation_steps):
    gan = make_small("float32", loss="hinge", accumulation_steps=accumulation_steps, ada_target=0.5, ada_images=200)
    rng, wanted, signs = np.random.default_rng(0), 0.0, []
    for batch in range(40 * accumulation_steps):
        # Above the target at first, then below.
        logit = rng.normal(2 if batch < 24 * accumulation_steps else 0, 1, (8, 1))
        signs.append(np.sign(logit))
        adapt_probability(gan, tf.constant(logit, tf.float32))
        if len(signs) == 4 * accumulation_steps:
            step = 8 * len(signs) / 200
            wanted = min(max(wanted + (step if np.mean(signs) > 0.5 else -step), 0.0), 1.0)
            signs = []
        np.testing.assert_allclose(gan.ada_p, wanted, atol=1e-6)
        assert batch != 24 * accumulation_steps or wanted > 0.9
    assert wanted < 0.4


def test_step_shows_the_discriminator_augmented_images_only(monkeypatch):
    seen = []

    def blacken(images, p, *numbers):
        seen.append((float(p), [x.shape for x in numbers]))
        return 0.0 * images

    monkeypatch.setattr("sagan_tf.training.adaptive_augmentation.ada_augment", blacken)
    gan = make_small("float32", loss="hinge", run_eagerly=True, ada_target=0.6, consistency_real_weight=1.0)
    gan.ada_p.assign(0.25)
    history = fit(gan, make_images(1))
    assert seen == 3 * [(0.25, [(8, ADA_UNIFORMS), (8, ADA_NORMALS)])]  # real, generated, and for the generator
    assert history["real_logit"] == history["fake_logit"] and history["consistency"] == history["g_gradient_norm"] == [
        0.0
    ]
    assert history["ada_p"] == [0.25] and history["ada_sign"] == [np.sign(history["real_logit"][0])]
    assert "ada_p" not in fit(make_small("float32", loss="hinge", run_eagerly=True), make_images(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(loss="relativistic"), "needs a loss that separates the logits at 0.*Received: loss relativistic"),
        (dict(loss="wasserstein"), "Received: loss wasserstein"),
        (dict(loss="hinge", augmentation=("color",)), r"takes the place of `augmentation`.*\('color',\)"),
        (dict(loss="hinge", ada_target=1.0), r"`ada_target` must be at least 0 and below 1. Received: ada_target=1.0"),
        (dict(loss="hinge", ada_images=0), "`ada_images` must be an integer >= 1"),
    ],
)
def test_compile_refuses_ada(options, message):
    with pytest.raises(ValueError, match=message):
        make_small("float32", **{"ada_target": 0.6, **options})
