"""MS-SSIM against SSIM by hand for one scale, and at its bounds."""

import numpy as np
import pytest

from sagan_tf.evaluation.ms_ssim import class_similarities, ms_ssim, num_scales


def ssim_by_hand(first, second):
    """Wang et al. 2004, equation 13: 11x11 Gaussian of 1.5 px, mean over all valid positions and channels."""
    position = np.arange(11) - 5.0
    line = np.exp(-(position**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for row in range(first.shape[0] - 10):
        for column in range(first.shape[1] - 10):
            for channel in range(first.shape[2]):
                place = (slice(row, row + 11), slice(column, column + 11), channel)
                x, y = first[place].astype(float), second[place].astype(float)
                mx, my = (window * x).sum(), (window * y).sum()
                vx, vy = (window * x * x).sum() - mx**2, (window * y * y).sum() - my**2
                covariance = (window * x * y).sum() - mx * my
                luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
                values.append(luminance * (2 * covariance + c2) / (vx + vy + c2))
    return np.mean(values)


def smooth(rng, count, size):
    coarse = rng.integers(0, 255, (count, 4, 4, 3)).astype(np.uint8)
    return coarse.repeat(size // 4, axis=1).repeat(size // 4, axis=2)


def test_ms_ssim_of_one_scale_is_ssim():
    rng = np.random.default_rng(0)
    first = smooth(rng, 3, 16)
    second = np.clip(first + rng.normal(0, 20, first.shape), 0, 255).astype(np.uint8)
    # The weight of a single scale is the sum of all: 1.0001, as published.
    expected = [ssim_by_hand(a, b) ** 1.0001 for a, b in zip(first, second)]
    np.testing.assert_allclose(ms_ssim(first, second), expected, rtol=1e-4)


def test_ms_ssim_num_scales_counts_scales_as_large_as_the_filter():
    assert [num_scales(size) for size in (10, 11, 21, 22, 32, 64, 128, 176, 256)] == [0, 1, 1, 2, 2, 3, 4, 5, 5]


def test_ms_ssim_class_similarities_are_one_only_for_copies():
    images = smooth(np.random.default_rng(1), 12, 64)
    np.testing.assert_allclose(ms_ssim(images, images), 1, atol=1e-6)
    labels = np.repeat([0, 1, 2], 4)
    images[4:8] = images[4]  # a collapsed class
    similarities = class_similarities(images, labels)
    assert similarities[1] == pytest.approx(1, abs=1e-6) and max(similarities[0], similarities[2]) < 0.6
    assert class_similarities(images[:1], None) == {}


def test_ms_ssim_rejects_small_and_unequal_images():
    for first, second in (
        (np.zeros((1, 8, 8, 3), np.uint8),) * 2,
        (np.zeros((1, 16, 16, 3), np.uint8), np.zeros((2, 16, 16, 3), np.uint8)),
    ):
        with pytest.raises(ValueError, match="H and W >= 11"):
            ms_ssim(first, second)
