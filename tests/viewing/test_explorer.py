"""The explorer in a real browser: the overlay follows mouse, touch and keys, and shows the stored map."""

import numpy as np
import pytest
from browser import chromium_browser, opened  # noqa: F401 (a fixture)
from viewing.maps import make_maps

from sagan_tf.viewing.explorer import MAX_BYTES, ExplorerData, explorer_page, save_explorer

CLASSES = ("disc", "</script><b>ring")  # class names may contain any text


def opposite_key(picture, row, column):
    """The key opposite to the query; a corner in the other images."""
    return (3 - row // 2, 3 - column // 2) if picture == 0 else (0, 3)


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    images = np.random.default_rng(0).integers(100, 156, (4, 32, 64, 3), dtype=np.uint8)
    maps = {
        ("generator", "attention_8"): make_maps(opposite_key, pictures=4),
        ("discriminator", "attention_16"): make_maps(lambda *_: (0, 0), side=16, keys=8, pictures=4, gamma=-0.25),
    }
    path = tmp_path_factory.mktemp("explorer") / "explorer.html"
    save_explorer(ExplorerData("run, step 5", images, (CLASSES[0],) * 2 + (CLASSES[1],) * 2, (7, 8, 7, 8), maps), path)
    return path


def brightest(page):
    """[row, column] of the brightest cell of a 4x4 grid over the canvas."""
    return page.evaluate("""() => {
        const {width, height} = canvas;
        const p = context.getImageData(0, 0, width, height).data, sums = new Float64Array(16);
        for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
            const i = 4 * (y * width + x);
            sums[Math.floor(4 * y / height) * 4 + Math.floor(4 * x / width)] += p[i] + p[i + 1] + p[i + 2];
        }
        const best = sums.indexOf(Math.max(...sums));
        return [Math.floor(best / 4), best % 4];
    }""")


def wait_for_state(page):
    """Waits until the page is drawn and returns its state."""
    page.wait_for_function("window.explorer !== undefined && explorer.drawn === latestDrawing")
    return page.evaluate("explorer.state")


def test_explorer_overlay_follows_mouse(browser, page_path):
    with opened(browser, page_path) as page:
        wait_for_state(page)
        box = page.locator("canvas").bounding_box()
        assert box["width"] == pytest.approx(2 * box["height"], abs=2)  # as the images
        for row, column in ((0, 0), (7, 0), (1, 6), (6, 6)):
            page.mouse.move(box["x"] + box["width"] * (column + 0.5) / 8, box["y"] + box["height"] * (row + 0.5) / 8)
            state = wait_for_state(page)
            assert (state["row"], state["column"]) == (row, column)
            assert brightest(page) == [3 - row // 2, 3 - column // 2]
        assert page.locator("#from").text_content() == "52, 26 px"
        assert page.locator("#share").text_content() == "100 %"
        assert page.locator("#spread").text_content() == "1.0 of 16 keys"
        assert page.locator("#highest").text_content() == "100 % on one key, 16.0 × uniform"
        # A click fixes the position.
        page.mouse.click(box["x"] + 5, box["y"] + 5)
        page.mouse.move(box["x"] + 200, box["y"] + 200)
        assert (wait_for_state(page)["row"], wait_for_state(page)["column"]) == (0, 0)


def test_explorer_lists_select_class_latent_and_layer(browser, page_path):
    with opened(browser, page_path) as page:
        assert wait_for_state(page)["picture"] == 0
        options = page.locator("#class option").all_text_contents()
        assert tuple(options) == CLASSES
        page.select_option("#latent", label="seed 8")
        assert wait_for_state(page)["picture"] == 1 and brightest(page) == [0, 3]
        page.select_option("#class", index=1)
        assert wait_for_state(page)["picture"] == 3  # the same latent with the other class
        page.select_option("#layer", index=1)
        state = wait_for_state(page)
        assert state["layer"] == 1 and brightest(page) == [0, 0]
        assert page.locator("#gamma").text_content() == "-0.250"
        assert page.locator("#spread").text_content() == "1.0 of 64 keys"
        page.locator("#all button").nth(0).click()
        assert wait_for_state(page)["picture"] == 0


def test_explorer_has_no_arrow_when_the_map_is_uniform(browser, tmp_path):
    maps = make_maps(lambda picture, row, column: None if row < 4 else (0, 0), pictures=1)
    images = np.full((1, 32, 32, 3), 128, np.uint8)
    save_explorer(ExplorerData("t", images, ("",), (0,), {("generator", "a"): maps}), tmp_path / "page.html")
    with opened(browser, tmp_path / "page.html") as page:
        # White pixels of dot and arrow.
        white = """() => { const p = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            return p.filter((v, i) => i % 4 === 0 && v === 255 && p[i + 1] === 255 && p[i + 2] === 255).length; }"""
        shown = {}
        for row in (1, 7):
            page.evaluate("([r, c]) => explorer.moveTo(r, c)", [row, 6])
            shown[row] = page.evaluate("explorer.standsOut"), page.evaluate(white)
        assert not shown[1][0] and shown[7][0] and shown[7][1] > 5 * shown[1][1]


def test_explorer_keys_move_position_and_change_image(browser, page_path):
    with opened(browser, page_path) as page:
        start = wait_for_state(page)
        for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
            page.keyboard.press(key)
        state = wait_for_state(page)
        assert (state["row"], state["column"]) == (start["row"] + 1, start["column"] + 2)
        for _ in range(20):
            page.keyboard.press("ArrowUp")
        assert wait_for_state(page)["row"] == 0  # at the edge
        page.keyboard.press("n")
        assert wait_for_state(page)["picture"] == 1
        page.keyboard.press("p")
        page.keyboard.press("l")
        state = wait_for_state(page)
        assert (state["picture"], state["layer"]) == (0, 1)


def test_explorer_touch_moves_position_on_small_screen(browser, page_path):
    with opened(browser, page_path, 380, 700, has_touch=True, is_mobile=True) as page:
        wait_for_state(page)
        box = page.locator("canvas").bounding_box()
        assert box["width"] > 300 and page.evaluate("document.documentElement.scrollWidth") <= 380
        page.touchscreen.tap(box["x"] + box["width"] * 0.95, box["y"] + box["height"] * 0.05)
        state = wait_for_state(page)
        assert (state["row"], state["column"]) == (0, 7) and brightest(page) == [3, 0]


def test_explorer_maps_are_accurate_to_8_bits(browser, page_path, tmp_path):
    rng = np.random.default_rng(1)
    maps = make_maps(lambda *_: None, side=16, keys=8, pictures=2)
    maps.scores[:] = rng.dirichlet(np.full(64, 0.1), (2, 256))
    images = np.zeros((2, 32, 32, 1), np.uint8)
    save_explorer(ExplorerData("t", images, ("", ""), (0, 1), {("generator", "a"): maps}), tmp_path / "page.html")
    with opened(browser, tmp_path / "page.html") as page:
        for picture, row, column in ((0, 0, 0), (1, 15, 15), (1, 7, 3)):
            page.evaluate(
                "async ([p, r, c]) => { await explorer.choose(p); await explorer.moveTo(r, c); }",
                [picture, row, column],
            )
            shown = np.array(page.evaluate("explorer.map"))
            expected = maps.map_of(picture, (row, column)).ravel()
            # 8 bits of the square root: at value v and maximum m half a level is sqrt(v m) / 255.
            assert (abs(shown - expected) <= np.sqrt(expected * expected.max()) / 255 * 1.05 + 1e-5).all()
        assert not page.locator("#class-field").is_visible()  # hidden without classes


@pytest.mark.parametrize(("side", "keys"), [(32, 16), (64, 16)])
def test_explorer_page_of_16_images_is_below_5_mb(side, keys):
    rng = np.random.default_rng(0)
    maps = make_maps(lambda *_: (0, 0), side=4, keys=4, pictures=16)
    # Noise compresses worse than any attention map.
    noise = rng.random((16, side * side, keys * keys), np.float32)
    features = np.zeros((16, side, side, 1), np.float32)
    maps = type(maps)("a", noise, features, (keys, keys), 1.0, maps.fields)
    images = rng.integers(0, 255, (16, 128, 128, 3), dtype=np.uint8)
    page = explorer_page(ExplorerData("t", images, ("",) * 16, tuple(range(16)), {("generator", "a"): maps}))
    assert len(page.encode()) < MAX_BYTES == 5_000_000
    assert '"reduced":true' in page
