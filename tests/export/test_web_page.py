"""The page in a real browser, and its latents, against Python."""

import contextlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from browser import chromium_browser, needs_chromium, opened_page, static_server  # noqa: F401 (a fixture)
from export.generators import LATENT_DIM, NUM_CLASSES, make_toy_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sagan_tf.export.web import export_web
from sagan_tf.generation.folding import fold_generator
from sagan_tf.generation.latents import draw_latents

PAGE = Path(__file__).resolve().parents[2] / "export" / "web"
NODE = shutil.which("node")
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm, which fetches LiteRT.js")
QUIET = "!sagan.state.working && !sagan.state.stale && !sagan.state.thumbnails.length && sagan.state.picture !== null"

seeds = st.integers(0, 2**53 - 1) | st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**53 - 1])
truncations = st.floats(0.01, 8)


@pytest.mark.skipif(NODE is None, reason="there is no node")
@settings(max_examples=1)
@given(cases=st.lists(st.tuples(seeds, truncations), min_size=100, max_size=100))
def test_web_page_draws_latents_of_the_saved_model(cases):
    program = (
        f"import {{ drawLatent }} from {json.dumps((PAGE / 'latents.js').as_uri())};"
        f"console.log(JSON.stringify({json.dumps(cases)}.map(([s, t]) => Array.from(drawLatent(s, t, 33)))));"
    )
    done = subprocess.run([NODE, "--input-type=module", "-e", program], capture_output=True, text=True, check=True)
    seed, truncation = map(np.array, zip(*cases))
    expected = draw_latents(tf.constant(seed, tf.int64), tf.constant(truncation, tf.float32), 33).numpy()
    # The page has the truncation in float64, the SavedModel in float32.
    np.testing.assert_allclose(np.array(json.loads(done.stdout)), expected, rtol=2e-6, atol=1e-7)


def wait_until_ready(page):
    page.wait_for_function("window.sagan !== undefined")
    page.evaluate("sagan.ready")
    page.wait_for_function(QUIET)


@contextlib.contextmanager
def live(browser, folder, **options):
    with static_server(folder) as address, opened_page(browser, **options) as page:
        page.goto(address)
        wait_until_ready(page)
        yield page
        assert not page.failed
        assert all(url.startswith((address, "data:", "blob:")) for url in page.asked)  # no other host is contacted


@pytest.fixture(scope="module")
def folded():
    return fold_generator(make_toy_generator(image_size=(32, 48)))


@pytest.fixture(scope="module")
def folder(folded, tmp_path_factory):
    training = {"data": "pictures", "step": 7, "class_names": ["ant", "bee", "cow", "dog", "elk"]}
    return export_web(folded, tmp_path_factory.mktemp("page") / "web", name="zoo", training=training)


@pytest.fixture(scope="module")
def page(browser, folder):
    with live(browser, folder) as page:
        yield page


def latent_of(seed, truncation):
    return draw_latents(tf.constant([seed], tf.int64), tf.constant([truncation]), LATENT_DIM)


def decibels(got, expected):
    return 10 * np.log10(4 / np.mean((np.float64(got) - expected) ** 2))


def shown(page):
    """The image on the canvas, (H, W, 3) in 0 .. 255."""
    values = page.evaluate("Array.from(image.getContext('2d').getImageData(0, 0, image.width, image.height).data)")
    return np.array(values).reshape(*page.evaluate("[image.height, image.width]"), 4)[..., :3]


def choose(page, variant):
    page.select_option("#variant", f"generator_{variant}.tflite")
    page.wait_for_function(QUIET)


@needs_chromium
@needs_npm
@pytest.mark.parametrize(("variant", "least"), [("float16", 60), ("dynamic_int8", 30)])
def test_web_page_image_matches_python(page, folded, variant, least):
    choose(page, variant)
    for seed, label in ((0, 0), (123456, NUM_CLASSES - 1)):
        page.fill("#seed", str(seed))
        page.press("#seed", "Enter")
        page.select_option("#class", str(label))
        page.wait_for_function(QUIET)
        latent = latent_of(seed, 1.5)
        expected = folded.generate(latent, tf.constant([label]))["image"][0].numpy()
        got = np.array(page.evaluate("Array.from(sagan.state.picture.image)")).reshape(expected.shape)
        assert decibels(got, expected) > least
        np.testing.assert_array_equal(shown(page), np.clip(np.floor((got + 1) * 127.5 + 0.5), 0, 255))
        other = folded.generate(latent, tf.constant([(label + 1) % NUM_CLASSES]))["image"][0].numpy()
        assert decibels(got, other) < decibels(got, expected) - 5  # the label has an effect
    assert " ms per image" in page.inner_text("#time")


@needs_chromium
@needs_npm
def test_web_page_shows_attention_of_position_under_pointer(page, folded):
    choose(page, "float16")
    seed, label = int(page.input_value("#seed")), int(page.input_value("#class"))
    maps = folded.generate(latent_of(seed, 1.5), tf.constant([label]))
    box = page.locator("#overlay").bounding_box()
    assert box["width"] == pytest.approx(1.5 * box["height"], abs=3)  # as the image
    overlay = "Array.from(overlay.getContext('2d').getImageData(0, 0, overlay.width, overlay.height).data).join()"
    for layer, side in (("attention_8", 8), ("attention_16", 16)):
        page.select_option("#layer", layer)
        page.hover("#name")
        assert page.evaluate("sagan.queriedRow()") is None
        before = page.evaluate(overlay)
        for x, y in ((0.1, 0.2), (0.9, 0.6)):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
            page.wait_for_function(f"sagan.queriedRow() !== null && {QUIET}")
            row = np.array(page.evaluate("Array.from(sagan.queriedRow().row)"))
            query = int(y * side) * (side * 3 // 2) + int(x * (side * 3 // 2))
            np.testing.assert_allclose(row, maps[layer][0, query], atol=2e-3)
            percent = float(page.inner_text("#highest").partition(" %")[0])
            assert percent == pytest.approx(100 * np.max(maps[layer][0, query]), abs=0.2)
            after = page.evaluate(overlay)
            assert after != before
            before = after
    page.focus("#overlay")
    page.keyboard.press("ArrowLeft")
    moved = page.evaluate("[sagan.queriedRow().column, sagan.queriedRow().line]")
    assert moved == [int(0.9 * 24) - 1, int(0.6 * 16)]
    page.keyboard.press("Escape")
    assert page.evaluate("sagan.queriedRow()") is None


@needs_chromium
@needs_npm
def test_web_page_controls_change_and_reset_the_image(page):
    assert page.inner_text("h1") == "zoo" and page.title() == "zoo, a Self-Attention GAN of pictures"
    assert page.locator("#class option").all_inner_texts() == ["ant", "bee", "cow", "dog", "elk"]
    before = shown(page)
    slider = page.locator("#directions input").first
    slider.fill("3")
    page.wait_for_function(QUIET)
    moved = shown(page)
    assert (moved != before).any()
    page.click("#reset")
    page.wait_for_function(QUIET)
    np.testing.assert_array_equal(shown(page), before)
    page.fill("#seed", "50")
    page.press("#seed", "Enter")
    page.wait_for_function(QUIET)
    page.locator("#gallery button").nth(2).click()
    page.wait_for_function(QUIET)
    assert page.input_value("#seed") == "53"
    page.fill("#seed", "-3")
    page.press("#seed", "Enter")
    assert page.input_value("#seed") == "53"
    page.click("#new")
    page.wait_for_function(QUIET)
    assert page.input_value("#seed") != "53"
    thumbnails = page.evaluate("[...document.querySelectorAll('#gallery canvas')].map((one) => one.toDataURL())")
    assert len(set(thumbnails)) == 8


@needs_chromium
@needs_npm
def test_web_page_address_holds_the_image(page, tmp_path):
    choose(page, "float16")
    page.fill("#seed", "9007199254740991")
    page.press("#seed", "Enter")
    page.select_option("#class", "3")
    page.locator("#truncation").fill("0.9")
    sliders = page.locator("#directions input")
    sliders.nth(0).fill("-2.3")
    sliders.nth(2).fill("0.7")
    page.wait_for_url(lambda url: "seed=9007199254740991" in url and "directions=-2.3,0,0.7" in url)
    page.wait_for_function(QUIET)
    next_seeds = page.evaluate("[...document.querySelectorAll('#gallery button')].map((one) => one.dataset.seed)")
    assert next_seeds == list("01234567")
    address, picture = page.url, shown(page)

    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "zoo_dog_seed_9007199254740991.png"
    with Image.open(download.value.path()) as file:
        np.testing.assert_array_equal(np.asarray(file.convert("RGB")), picture)

    page.evaluate("location.hash = 'seed=1&class=99&truncation=x&directions=9,1&weights=none'")  # out of range: ignored
    page.wait_for_function(f"sagan.state.seed === 1 && {QUIET}")
    assert page.input_value("#class") == "3" and page.input_value("#truncation") == "0.9"
    assert page.evaluate("sagan.state.offsets.slice(0, 3)") == [-2.3, 1, 0.7]
    assert (shown(page) != picture).any()
    page.evaluate("location.hash = 'seed=2'; history.replaceState(null, '', '#seed=1')")  # by the timer of the page
    page.wait_for_function(f"sagan.state.seed === 2 && {QUIET}")
    page.goto(address)  # within the page
    page.wait_for_function(f"sagan.state.seed > 2 && {QUIET}")
    np.testing.assert_array_equal(shown(page), picture)
    page.reload()
    wait_until_ready(page)
    np.testing.assert_array_equal(shown(page), picture)
    assert [slider.input_value() for slider in sliders.all()][:3] == ["-2.3", "0", "0.7"]


@needs_chromium
@needs_npm
def test_web_page_keeps_attention_after_a_tap(browser, folder):
    with live(browser, folder, width=400, has_touch=True) as page:
        box = page.locator("#overlay").bounding_box()
        assert box["width"] < 400
        page.touchscreen.tap(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
        page.wait_for_function(f"sagan.queriedRow() !== null && {QUIET}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 400


@needs_chromium
@needs_npm
def test_web_page_works_without_classes_attention_and_colors(browser, tmp_path):
    generator = make_toy_generator(None, attention_sizes=(), image_channels=1)
    folder = export_web(generator, tmp_path / "web")
    with live(browser, folder) as page:
        picture = shown(page)
        assert picture.std() > 0 and (picture[..., 0] == picture[..., 2]).all()
        assert not page.is_visible("#class-row") and not page.is_visible("#layer-row") and not page.is_visible("#hint")
        times, box = page.evaluate("sagan.state.times"), page.locator("#overlay").bounding_box()
        for x in (0.2, 0.4, 0.6):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + box["height"] / 2)
            page.wait_for_function(QUIET)
        assert page.evaluate("sagan.state.query") is not None and page.evaluate("sagan.state.times") == times


@needs_chromium
@needs_npm
def test_web_page_reports_errors(browser, folder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    for path in broken.glob("*.tflite"):
        path.write_bytes(b"nothing")
    with static_server(broken) as address, opened_page(browser) as page:
        page.goto(address)
        page.wait_for_selector("#problem:not([hidden])")
        assert page.inner_text("#problem").startswith("The generator cannot run here: ")
        page.goto((folder / "index.html").as_uri())
        page.wait_for_selector("#problem:not([hidden])")
        assert "python -m http.server" in page.inner_text("#problem")


@needs_chromium
@needs_npm
def test_web_page_runs_another_file_of_weights_after_one_that_cannot_be_loaded(browser, folder, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(folder, half)
    (half / "generator_dynamic_int8.tflite").write_bytes(b"nothing")
    with static_server(half) as address, opened_page(browser) as page:
        page.goto(address)  # which starts with the broken file
        for _ in range(2):
            page.wait_for_selector("#problem:not([hidden])")
            problem = page.inner_text("#problem")
            page.locator("#truncation").fill("0.9")
            page.wait_for_function("!sagan.state.working")
            assert page.inner_text("#problem") == problem and page.inner_text("#time") == ""
            choose(page, "float16")
            assert not page.is_visible("#problem") and shown(page).std() > 0
            page.select_option("#variant", "generator_dynamic_int8.tflite")
