"""Text in images: every character is drawn or described, in any script."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from sagan_tf.viewing import text as module
from sagan_tf.viewing.text import TextFont


def draw(text, font=None, anchor="la"):
    canvas = Image.new("L", (400, 40), 255)
    (font or TextFont(13)).draw(ImageDraw.Draw(canvas), (100, 15), text, 0, anchor)
    return np.asarray(canvas)


@pytest.fixture(params=["system", "none"])
def fonts(request, monkeypatch):
    if request.param == "none":
        monkeypatch.setattr(module, "_system_fonts", lambda: ())
    monkeypatch.setattr(module, "_noticed", [])
    module._runs.cache_clear()
    yield request.param
    module._runs.cache_clear()


@pytest.mark.parametrize("anchor", ["la", "lm", "mm"])
def test_text_font_draws_ascii_as_pillow_does(anchor):
    canvas, text = Image.new("L", (400, 40), 255), "ring, seed 3"
    ImageDraw.Draw(canvas).text((100, 15), text, 0, ImageFont.load_default(13), anchor=anchor)
    shifts = (-1, 0, 1) if anchor == "mm" else (0,)  # the middle of an odd width
    assert any((np.roll(draw(text, anchor=anchor), shift, axis=1) == np.asarray(canvas)).all() for shift in shifts)


def test_text_font_never_draws_the_sign_of_a_missing_character(fonts):
    pictures = [draw(letter) for letter in "жщ猫狗\u05d0\u0939\U0001f4f7\U0010fffd"]
    assert all((first != second).any() for first, second in itertools.combinations(pictures, 2))
    font = ImageFont.load_default(13)
    for picture, letter in zip(pictures, "жщ猫"):
        canvas = Image.new("L", (400, 40), 255)
        ImageDraw.Draw(canvas).text((100, 15), letter, 0, font)  # a box
        assert (picture != np.asarray(canvas)).any()
    assert draw("жук 猫 \u05d0").min() < 128 and TextFont(13).getlength("a\u200db\n") > 0


def test_text_font_describes_what_no_font_has_and_says_so_once(fonts, capsys):
    if fonts == "system":
        pytest.skip("depends on the fonts of the machine")
    np.testing.assert_array_equal(draw("猫狗"), draw("U+732B U+72D7"))
    np.testing.assert_array_equal(draw("Kübel e\u0301"), draw("Kubel e"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "`猫`" in line and "U+732B" in line and "Install" in line
