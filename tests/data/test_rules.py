"""The rule scorer: what it reads is what was drawn; pictures without the rule score what chance gives."""

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


def both(test):
    return pytest.mark.parametrize("name", embedded.NAMES)(test)


@both
@pytest.mark.parametrize("size,channels", SIZES)
def test_the_data_keep_their_rule(name, size, channels):
    found = score(name, *render(name, range(NUM), split="test", image_size=size, channels=channels))
    assert found["valid"] > 0.99
    agreements = [value for key, value in found.items() if key.endswith("_agreement")]
    assert agreements == [1.0] * (2 if name == "twins" else 3)
    assert found["class_accuracy"] == 1.0
    assert found["score"] == found["valid"]
    assert found["entropy_bits"] == pytest.approx(math.log2(24), abs=0.05)


@both
def test_halves_drawn_apart_give_chance(name):
    found = chance_levels(name, num_images=2000)
    five_errors = 5 * math.sqrt(0.25 / 2000)
    assert found["valid"] > 0.99
    assert found["hue_agreement"] == pytest.approx(1 / 6, abs=five_errors)
    assert found["kind_agreement"] == pytest.approx(1 / 4, abs=five_errors)
    if name == "twins":
        assert found["score"] == pytest.approx(1 / 24, abs=0.022)
    else:
        assert found["place_agreement"] == pytest.approx(25 / 81 * 7 / 9, abs=five_errors)
        assert found["score"] < 0.005  # (1/6)^3 for the hues alone


@settings(deadline=None, max_examples=15)
@given(
    kinds=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    hues=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    rows=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    columns=st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
def test_what_is_read_is_what_was_painted(kinds, hues, rows, columns):
    image = np.full((1, 32, 32, 3), 50.0)
    for side, view in enumerate((image, image[:, :, ::-1])):
        area = view[:, rows[side] : rows[side] + 12, columns[side] : columns[side] + 12]
        mask = embedded.shape_masks(12)[kinds[side]][..., None]
        area[...] = np.where(mask > 0, embedded.COLOURS[hues[side]], area)
    reading = read_shapes("twins", image)
    assert reading.valid.all()
    for got, want in [(reading.kind, kinds), (reading.hue, hues), (reading.row, rows), (reading.column, columns)]:
        assert tuple(got[0, 0]) == want


@both
def test_order_flip_and_floats_change_nothing(name):
    images, labels = render(name, range(200))
    want = score(name, images, labels)
    back = np.random.default_rng(0).permutation(200)
    assert score(name, images[back].astype("float32"), labels[back]) == pytest.approx(want)
    flipped = score(name, images[:, :, ::-1], labels)
    assert {key: flipped[key] for key in ("valid", "hue_agreement", "kind_agreement", "score")} == {
        key: want[key] for key in ("valid", "hue_agreement", "kind_agreement", "score")
    }


@both
def test_pictures_without_shapes_are_not_valid(name):
    rng = np.random.default_rng(0)
    blank = np.full((50, 32, 32, 3), 90, np.uint8)
    noise = rng.integers(0, 256, (50, 32, 32, 3), np.uint8)
    ramp = np.broadcast_to(np.linspace(0, 255, 32)[:, None, None], (50, 32, 32, 3))
    for images in (blank, noise, ramp):
        found = score(name, images)
        assert found["valid"] == found["score"] == 0
        assert math.isnan(found["hue_agreement"]) and math.isnan(found["entropy_bits"])


def test_one_missing_shape_is_seen():
    images = render("twins", range(100))[0]
    images[:, :, 16:] = 60
    assert score("twins", images)["valid"] == 0
    images = render("mirror", range(100))[0]
    images[:, 22:, :16] = 60  # the lowest of the left column
    assert score("mirror", images)["valid"] < 0.05


@both
def test_a_collapse_is_seen_in_the_entropy(name):
    found = score(name, np.repeat(render(name, [3])[0], 50, axis=0))
    assert found["score"] == 1.0 and found["entropy_bits"] == 0.0


@both
def test_another_colour_on_one_side_breaks_the_rule(name):
    images = render(name, range(300))[0]
    images[:, :, 16:] = np.roll(images[:, :, 16:], 1, axis=-1)
    found = score(name, images)
    assert found["hue_agreement"] < 0.5 and found["kind_agreement"] > 0.95
    assert found["score"] < 0.5


def test_noise_lowers_validity_and_moves_no_agreement():
    images = render("twins", range(500))[0].astype(float)
    rng = np.random.default_rng(0)
    valid = []
    for sd in (0, 16, 32, 64):
        found = score("twins", np.clip(images + rng.normal(0, sd, images.shape), 0, 255))
        valid.append(found["valid"])
        assert math.isnan(found["hue_agreement"]) or found["hue_agreement"] > 0.99
    assert valid == sorted(valid, reverse=True) and valid[0] > 0.99 and valid[-1] < 0.5


def test_wrong_arguments_are_named():
    images = np.zeros((5, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="`name` must be one of"):
        score("triplets", images)
    for wrong in (images[:, :30], images[..., :2], images[0], images[:, :20, :20], images[:0]):
        with pytest.raises(ValueError, match=r"`images` of shape \(N, S, S, 1 or 3\)"):
            read_shapes("twins", wrong)
    with pytest.raises(ValueError, match=r"`labels` must be \(N,\)"):
        score("twins", images, np.zeros(7, int))


def test_class_accuracy_counts_the_kinds_asked_for():
    images, labels = render("twins", range(400))
    asked = (labels + (np.arange(400) % 2)) % len(KINDS)
    assert score("twins", images, asked)["class_accuracy"] == pytest.approx(0.5, abs=0.01)
