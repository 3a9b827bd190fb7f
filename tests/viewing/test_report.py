"""The report in a real browser: values are readable, and no content of a run breaks the page."""

import dataclasses

import numpy as np
import pytest
from browser import chromium_browser, opened  # noqa: F401 (a fixture)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sagan_tf.training.step_metrics import make_means
from sagan_tf.viewing.report import MAX_IMAGES, RunRecord, curves, differing_fields, report_page, select_steps

HOSTILE = "</script><script>throw 1</script>"


def metrics_lines(count=50, interval=10):
    lines = []
    for i in range(count):
        line = {"step": interval * (i + 1), "images": 320 * (i + 1), "d_loss": 2.0 / (i + 1), "g_loss": 0.5}
        line |= {"real_logit": 0.1 * i, "fake_logit": None, "d_accuracy": 0.75, "gamma/g/attention_16": 0.01 * i}
        line |= {f"sigma/g/layer_{k}": 1.0 + k for k in range(12)} | {"images_per_second": 100.0}
        lines.append(line | ({"fid": 50.0 - i} if i % 10 == 9 else {}))
    return lines


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for step, level in ((0, 0), (250, 120), (500, 240)):
        Image.fromarray(np.full((64, 64, 3), level, np.uint8)).save(folder / f"{step}.png")
    return RunRecord(
        name=HOSTILE,
        steps=1000,
        images_per_step=32,
        metrics=metrics_lines(),
        config=[("run", "a"), ("data.name", HOSTILE), ("data.image_size", "32"), ("training.loss", "hinge")],
        environment={"started_at": "now", "gpus": [], "command": ["x", HOSTILE]},
        starts=2,
        samples={step: folder / f"{step}.png" for step in (0, 250, 500)},
        attention={500: folder / "500.png"},
        contact_sheet=folder / "250.png",
        class_names=("disc", HOSTILE),
        evaluations=[
            {
                "title": f"Step 500, {HOSTILE}",
                "figures": [["FID", HOSTILE]],
                "how": [["data", HOSTILE]],
                "pictures": [folder / "500.png", folder / "none.png"],
            }
        ],
    )


def write_page(records, path):
    path.write_text(report_page(records, "2026-01-01"), encoding="utf-8")
    return path


def test_report_shows_values_of_running_training(browser, record, tmp_path):
    from playwright import sync_api

    with opened(browser, write_page([record], tmp_path / "report.html")) as page:
        assert page.locator("h1").text_content() == HOSTILE  # shown, not executed
        assert "Step 500 of 1,000, 2.7 min left" in page.locator("#line").text_content()
        titles = page.locator(".card h3").all_text_contents()
        assert titles == [
            "fid",
            "Losses",
            "Discriminator logits",
            "Discriminator accuracy",
            "Attention gamma",
            "sigma, generator",
            "Images per second",
        ]
        losses = page.locator(".card", has_text="Losses")
        # The last values without a pointer, otherwise those of the step under it.
        assert losses.locator(".u-value").all_text_contents() == ["500", "0.0400", "0.500"]
        over = losses.locator(".u-over")
        box = over.bounding_box()
        over.hover(position={"x": 1, "y": box["height"] / 2})
        sync_api.expect(losses.locator(".u-value")).to_have_text(["10", "2.00", "0.500"])  # in the next frame
        assert page.locator(".config td", has_text="hinge").count() == 1
        assert page.locator("#environment td", has_text="none").count() == 1
        evaluation = page.locator("#evaluation")
        assert evaluation.locator("td").all_text_contents() == ["FID", HOSTILE, "data", HOSTILE]
        assert evaluation.locator("h3").all_text_contents() == [f"Step 500, {HOSTILE}"]
        assert evaluation.locator("img").count() == 1
        assert page.locator("#samples details p").text_content() == f"disc, {HOSTILE}"


def test_report_takes_no_metric_of_the_step_for_an_evaluation(browser, record, tmp_path):
    names = [*make_means(), "evaluation_samples"]
    lines = [line | dict.fromkeys(names, 0.5) for line in metrics_lines(3)]
    other = dataclasses.replace(record, name="other", metrics=lines)
    for records in ([other], [record, other]):
        with opened(browser, write_page(records, tmp_path / "report.html")) as page:
            titles = page.locator(".card h3").all_text_contents()
            labels = page.locator(".tile span").all_text_contents()
            assert not {*titles, *labels} & set(names)
            assert {"Penalties, in the discriminator's loss", "R2 penalty"} & set(titles)


def test_report_slider_shows_samples_by_step(browser, record, tmp_path):
    with opened(browser, write_page([record], tmp_path / "report.html")) as page:
        slider, image = page.locator(".film-samples input"), page.locator(".film-samples img")
        shown = []
        for position in (0, 1, 2):
            slider.evaluate("(s, v) => { s.value = v; s.dispatchEvent(new Event('input')); }", str(position))
            shown.append(
                image.evaluate("""async i => { await i.decode(); const c = document.createElement('canvas');
                c.width = c.height = 1; const p = c.getContext('2d'); p.drawImage(i, 0, 0, 1, 1);
                return p.getImageData(0, 0, 1, 1).data[0]; }""")
            )
        np.testing.assert_allclose(shown, [0, 120, 240], atol=8)
        assert page.locator(".film-samples output").text_content() == "step 500"
        slider.focus()
        page.keyboard.press("ArrowLeft")
        assert page.locator(".film-samples output").text_content() == "step 250"


def test_report_of_several_runs_starts_with_differing_fields(browser, record, tmp_path):
    changed = [(key, {"run": "b", "training.loss": "wasserstein"}.get(key, value)) for key, value in record.config]
    changes = {"config": changed, "metrics": metrics_lines(20), "attention": {}, "environment": None}
    other = dataclasses.replace(record, name="other", **changes)
    assert differing_fields([record, other]) == [["training.loss", ["hinge", "wasserstein"]]]
    with opened(browser, write_page([record, other], tmp_path / "report.html")) as page:
        assert page.locator("main section").first.locator("h2").first.text_content() == "Differences"
        cells = page.locator("#differences table").first.locator("td").all_text_contents()
        assert cells == ["training.loss", "hinge", "wasserstein"]
        # What the runs share is folded; the names of the run folders are not a setting.
        shared = page.locator("#config details")
        assert shared.locator("summary").inner_text() == "2 settings that all runs share"
        assert shared.locator("td").all_text_contents() == ["name", HOSTILE, "image_size", "32"]
        equal, rows = page.locator("#differences details"), page.locator("#differences details tr")
        assert equal.locator("summary").inner_text() == f"{rows.count()} values that all runs share"
        assert "images per second" in equal.text_content()
        assert not shared.locator("table").first.is_visible() and page.locator("#config table").count() == 1
        chart = page.locator(".card", has_text="Discriminator loss")
        assert chart.locator(".u-series").count() == 3  # the step and both runs
        assert page.locator(".film-samples img").count() == 2
        assert page.locator("#data img").count() == 1  # both runs share one data set


def test_report_of_several_runs_accepts_any_metric_name(browser, record, tmp_path):
    names = ["constructor", "toString", "__proto__"]
    other = dataclasses.replace(record, metrics=[{"step": 1, "d_loss": 1.0, **dict.fromkeys(names, 5.0)}])
    with opened(browser, write_page([record, other], tmp_path / "report.html")) as page:
        rows = page.locator("#differences table").last.locator("tr").all_inner_texts()
        assert {f"{name}\t–\t5.00" for name in names} <= set(rows)


@pytest.mark.parametrize("count", [1, 6])
def test_report_fits_small_screen(browser, record, tmp_path, count):
    runs = [
        dataclasses.replace(record, name=f"run_{i}", config=[*record.config, ("training.seed", str(i))])
        for i in range(count)
    ]
    path = write_page(runs, tmp_path / "report.html")
    with opened(browser, path, 360, 640, has_touch=True, is_mobile=True) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.locator(".u-legend").first.is_visible()
        if count > 1:  # every value beside the name of its run
            boxes = [cell.bounding_box() for cell in page.locator("#differences td[data-title]").all()]
            assert len(boxes) >= count and all(box["x"] + box["width"] <= 360 < 3 * box["width"] for box in boxes)
            assert (
                page.locator("#differences td").first.evaluate(
                    "td => getComputedStyle(td.nextSibling, '::before').content"
                )
                == '"run_0"'
            )


def oklab(colors):
    """Ottosson 2020, A perceptual color space for image processing; colors (N, 3) in 0 .. 1."""
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    opponents = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return np.cbrt(linear @ cones.T) @ opponents.T, linear @ [0.2126, 0.7152, 0.0722]


def test_report_curves_of_16_layers_have_distinct_colors(browser, record, tmp_path):
    with opened(browser, write_page([record], tmp_path / "report.html"), color_scheme="light") as page:
        check_line_colors(page)
        page.emulate_media(color_scheme="dark")
        page.reload()
        check_line_colors(page)


def check_line_colors(page):
    styles = page.evaluate("Array.from({length: 32}, (_, i) => report.lineStyle(i))")
    panel = page.locator(".card").first.evaluate("card => getComputedStyle(card).backgroundColor")
    colors = np.array([[int(style["stroke"][i : i + 2], 16) for i in (1, 3, 5)] for style in styles[:16]]) / 255
    lab, luminance = oklab(colors)
    distances = np.linalg.norm(lab[:, None] - lab, axis=-1)[np.triu_indices(16, 1)]
    assert distances.min() > 0.15  # two colors side by side differ visibly from about 0.02
    _, page_luminance = oklab(np.array([[int(part) for part in panel[4:-1].split(",")]]) / 255)
    contrasts = (np.maximum(luminance, page_luminance) + 0.05) / (np.minimum(luminance, page_luminance) + 0.05)
    assert contrasts.min() >= 3  # WCAG 2.2, 1.4.11
    assert len({(style["stroke"], str(style["dash"])) for style in styles}) == 32


def test_report_copies_commands(browser, record, tmp_path):
    line = "import sagan_tf\npython -m sagan_tf.train --run 'a b' --data.name 'it'\"'\"'s'"
    page_path = write_page([dataclasses.replace(record, commands=(line, "second"))], tmp_path / "report.html")
    with opened(browser, page_path, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.locator("#commands button").first.click()
        page.locator("#commands button", has_text="Copied").wait_for(timeout=10_000)  # the clipboard takes its time
        assert page.evaluate("navigator.clipboard.readText()") == line


def test_report_is_drawn_for_run_without_metrics(browser, record, tmp_path):
    empty = RunRecord(name="new", steps=10, images_per_step=4, metrics=[], config=record.config)
    with opened(browser, write_page([empty], tmp_path / "report.html")) as page:
        assert "No metrics yet" in page.locator("#line").text_content()
        assert page.locator(".card").count() == 0 and page.locator("#config td").count() > 3


def test_report_omits_unreadable_images(record, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"half")
    broken = dataclasses.replace(record, samples={1: tmp_path / "broken.png", 2: tmp_path / "missing.png"})
    assert '"samples":[]' in report_page([broken], "now")


def test_report_curves_omit_values_that_are_not_finite():
    result = curves([{"step": 1, "a": 1.0}, {"step": 2, "a": None, "b": float("inf")}, {"step": 3, "a": 3.0, "b": 2}])
    assert result == {"a": ([1, 3], [1.0, 3.0]), "b": ([3], [2.0])}


def test_report_accepts_any_numbers_of_a_metrics_log(record):
    lines = [{"step": 1, "images": None, "images_per_second": 1e-320, "d_loss": 1.79769e308}, {"step": 2, "d_loss": 1}]
    page = report_page([dataclasses.replace(record, metrics=lines[:1], steps=2000)], "now")
    assert '"seconds_left":null' in page and '"curves":{"images_per_second"' in page.replace(": ", ":")
    assert curves(lines) == {"images_per_second": ([1], [1e-320]), "d_loss": ([2], [1.0])}


@settings(max_examples=30)
@given(count=st.integers(1, 3000), max_points=st.integers(1, 200))
def test_report_curves_are_averaged_when_too_long(count, max_points):
    values = np.arange(count) % 7
    (steps, thinned) = curves([{"step": i + 1, "a": float(v)} for i, v in enumerate(values)], max_points)["a"]
    assert len(steps) == len(thinned) == min(count, max_points) and steps[-1] == count
    assert min(values) <= min(thinned) and max(thinned) <= max(values) and steps == sorted(set(steps))


@settings(max_examples=30)
@given(steps=st.sets(st.integers(0, 10**7), max_size=200))
def test_report_select_steps_includes_first_and_last(steps):
    selected = select_steps(steps)
    assert len(selected) == min(len(steps), MAX_IMAGES)
    assert selected == sorted(set(selected)) and set(selected) <= steps
    if steps:
        assert selected[0] == min(steps) and selected[-1] == max(steps)
