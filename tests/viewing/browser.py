"""A real browser without a screen and without a network."""

import contextlib
import shutil

import pytest


def find_chromium():
    """The browser's path; skips the test where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium on this machine")
    pytest.importorskip("playwright.sync_api", reason="playwright comes with the extra `test`")
    return path


@contextlib.contextmanager
def opened(path, width=1000, height=700, **options):
    """Opens a file.

    Args:
        path: pathlib.Path of an HTML file.
        width, height: px of the window.
        options: Of playwright's `new_context`.

    Yields:
        playwright Page. Errors of its scripts, and whatever it asks of a network, fail the test at the end.
    """
    chromium = find_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": width, "height": height}, offline=True, **options)
        page = context.new_page()
        errors, asked = [], []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        yield page
        assert errors == []
        assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
        browser.close()
