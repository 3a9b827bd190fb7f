"""DiffAugment against NumPy, image by image."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from sagan_tf.training.augmentation import OPERATIONS, UNIFORMS, diff_augment, flip_and_translate


def pictures(seed=0, count=3):
    rng = np.random.default_rng(seed)
    images = rng.uniform(-1, 1, (count, 16, 24, 3)).astype("float32")
    return images, rng.uniform(size=(count, UNIFORMS)).astype("float32")


def numpy_augment(image, u, operations):
    height, width, _ = image.shape
    if "color" in operations:
        image = image + u[0] - 0.5
        gray = image.mean(-1, keepdims=True)
        image = (image - gray) * 2 * u[1] + gray
        image = (image - image.mean()) * (u[2] + 0.5) + image.mean()
    if "translation" in operations:
        by = [int(np.floor(u[3 + i] * (2 * (s // 8) + 1))) - s // 8 for i, s in enumerate((height, width))]
        moved = np.zeros_like(image)
        for i in range(height):
            for j in range(width):
                if 0 <= i + by[0] < height and 0 <= j + by[1] < width:
                    moved[i, j] = image[i + by[0], j + by[1]]
        image = moved
    if "cutout" in operations:
        image = image.copy()
        start = [int(np.floor(u[5 + i] * (s + 1))) - s // 4 for i, s in enumerate((height, width))]
        image[max(start[0], 0) : start[0] + height // 2, max(start[1], 0) : start[1] + width // 2] = 0
    return image


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), operations=st.sets(st.sampled_from(OPERATIONS)))
def test_diff_augment_matches_numpy(seed, operations):
    images, uniforms = pictures(seed)
    want = [numpy_augment(i.astype(np.float64), u, operations) for i, u in zip(images, uniforms)]
    np.testing.assert_allclose(diff_augment(images, uniforms, operations), want, atol=1e-5)


def test_diff_augment_without_operations_changes_nothing():
    images, uniforms = pictures()
    np.testing.assert_array_equal(diff_augment(images, uniforms, ()), images)


def test_diff_augment_gradient_reaches_the_image():
    images, uniforms = (tf.constant(x) for x in pictures())
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = tf.reduce_sum(diff_augment(images, uniforms, OPERATIONS) ** 2)
    assert float(tf.norm(tape.gradient(loss, images))) > 1


def test_diff_augment_rejects_an_unknown_operation():
    with pytest.raises(ValueError, match="zoom"):
        diff_augment(*pictures(), ("zoom",))


def test_flip_and_translate_matches_numpy_padding():
    images, uniforms = pictures(count=8)
    wanted = []
    for image, u in zip(images, uniforms):
        image = image[:, ::-1] if u[0] < 0.5 else image
        y, x = (int(np.floor(u[1 + i] * (2 * (s // 8) + 1))) for i, s in enumerate((16, 24)))  # 0: by -s/8
        padded = np.pad(image, ((2, 2), (3, 3), (0, 0)), mode="reflect")
        wanted.append(padded[y : y + 16, x : x + 24])
    np.testing.assert_array_equal(flip_and_translate(images, uniforms[:, :3]), wanted)
