"""The rule scorer detects what was drawn, and scores images without the rule at chance level."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagan_tf.data import embedded
from sagan_tf.data.embedded import KINDS, render
from sagan_tf.data.rules import chance_levels, read_shapes, score

NUM = 600
SIZES = [(32, 3), (32, 1), (45, 3), (64, 3)]
for_each_name = pytest.mark.parametrize("name", embedded.NAMES)


@pytest.mark.slow
@for_each_name
@pytest.mark.parametrize("size,channels", SIZES)
def test_rule_score_of_the_data_is_perfect(name, size, channels):
    result = score(name, *render(name, range(NUM), split="test", image_size=size, channels=channels))
    assert result["valid"] > 0.99
    agreements = [value for key, value in result.items() if key.endswith("_agreement")]
    assert agreements == [1.0] * (2 if name == "twins" else 3)
    assert result["class_accuracy"] == 1.0
    assert result["score"] == result["valid"]
    assert result["entropy_bits"] == pytest.approx(math.log2(24), abs=0.05)


@for_each_name
def test_rule_score_chance_levels_match_theory(name):
    result = chance_levels(name, num_images=2000)
    five_errors = 5 * math.sqrt(0.25 / 2000)
    assert result["valid"] > 0.99
    assert result["hue_agreement"] == pytest.approx(1 / 6, abs=five_errors)
    assert result["kind_agreement"] == pytest.approx(1 / 4, abs=five_errors)
    if name == "twins":
        assert result["score"] == pytest.approx(1 / 24, abs=0.022)
    else:
        assert result["place_agreement"] == pytest.approx(25 / 81 * 7 / 9, abs=five_errors)
        assert result["score"] < 0.005  # (1/6)^3 for the hues only.


@settings(max_examples=15)
@given(
    kinds=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    hues=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    rows=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    columns=st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
def test_read_shapes_finds_what_was_drawn(kinds, hues, rows, columns):
    image = np.full((1, 32, 32, 3), 50.0)
    for side, view in enumerate((image, image[:, :, ::-1])):
        area = view[:, rows[side] : rows[side] + 12, columns[side] : columns[side] + 12]
        mask = embedded.shape_masks(12)[kinds[side]][..., None]
        area[...] = np.where(mask > 0, embedded.COLORS[hues[side]], area)
    reading = read_shapes("twins", image)
    assert reading.valid.all()
    for detected, drawn in [(reading.kind, kinds), (reading.hue, hues), (reading.row, rows), (reading.column, columns)]:
        assert tuple(detected[0, 0]) == drawn


@for_each_name
def test_rule_score_is_invariant_to_order_flip_and_dtype(name):
    images, labels = render(name, range(200))
    expected = score(name, images, labels)
    order = np.random.default_rng(0).permutation(200)
    assert score(name, images[order].astype("float32"), labels[order]) == pytest.approx(expected)
    flipped = score(name, images[:, :, ::-1], labels)
    for key in ("valid", "hue_agreement", "kind_agreement", "score"):
        assert flipped[key] == expected[key]


@for_each_name
def test_rule_score_is_zero_without_shapes(name):
    rng = np.random.default_rng(0)
    blank = np.full((50, 32, 32, 3), 90, np.uint8)
    noise = rng.integers(0, 256, (50, 32, 32, 3), np.uint8)
    ramp = np.broadcast_to(np.linspace(0, 255, 32)[:, None, None], (50, 32, 32, 3))
    for images in (blank, noise, ramp):
        result = score(name, images)
        assert result["valid"] == result["score"] == 0
        assert math.isnan(result["hue_agreement"]) and math.isnan(result["entropy_bits"])


def test_rule_score_detects_one_missing_shape():
    images = render("twins", range(100))[0]
    images[:, :, 16:] = 60
    assert score("twins", images)["valid"] == 0
    images = render("mirror", range(100))[0]
    images[:, 22:, :16] = 60  # The lowest shape of the left column.
    assert score("mirror", images)["valid"] < 0.05


@for_each_name
def test_rule_score_entropy_is_zero_in_a_collapse(name):
    result = score(name, np.repeat(render(name, [3])[0], 50, axis=0))
    assert result["score"] == 1.0 and result["entropy_bits"] == 0.0


@for_each_name
def test_rule_score_drops_when_one_side_changes_color(name):
    images = render(name, range(300))[0]
    images[:, :, 16:] = np.roll(images[:, :, 16:], 1, axis=-1)
    result = score(name, images)
    assert result["hue_agreement"] < 0.5 and result["kind_agreement"] > 0.95
    assert result["score"] < 0.5


def test_rule_score_validity_drops_with_noise_but_not_agreement():
    images = render("twins", range(500))[0].astype(float)
    rng = np.random.default_rng(0)
    valid = []
    for sd in (0, 16, 32, 64):
        result = score("twins", np.clip(images + rng.normal(0, sd, images.shape), 0, 255))
        valid.append(result["valid"])
        assert math.isnan(result["hue_agreement"]) or result["hue_agreement"] > 0.99
    assert valid == sorted(valid, reverse=True) and valid[0] > 0.99 and valid[-1] < 0.5


def test_rule_score_rejects_bad_arguments():
    images = np.zeros((5, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="`name` must be one of"):
        score("triplets", images)
    for bad in (images[:, :30], images[..., :2], images[0], images[:, :20, :20], images[:0]):
        with pytest.raises(ValueError, match=r"`images` of shape \(N, S, S, 1 or 3\)"):
            read_shapes("twins", bad)
    with pytest.raises(ValueError, match=r"`labels` must be \(N,\)"):
        score("twins", images, np.zeros(7, int))


def test_class_accuracy_counts_the_requested_kinds():
    images, labels = render("twins", range(400))
    requested = (labels + (np.arange(400) % 2)) % len(KINDS)
    assert score("twins", images, requested)["class_accuracy"] == pytest.approx(0.5, abs=0.01)
