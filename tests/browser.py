"""A headless Chromium and a static web server for tests of pages."""

import contextlib
import functools
import http.server
import shutil
import threading

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def static_server(folder):
    """Serves a folder; yields its URL."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def launched():
    """Yields a playwright Browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module", name="browser")
def chromium_browser():
    """A headless playwright Browser; module scope, since its event loop blocks those of other tests."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with launched() as browser:
        yield browser


@contextlib.contextmanager
def opened_page(browser, width=1000, height=900, **options):
    """Yields a playwright Page; `page.asked` lists all requested URLs, `page.failed` all uncaught exceptions."""
    page = browser.new_page(viewport={"width": width, "height": height}, **options)
    page.asked, page.failed = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.failed.append(str(error)))
    try:
        yield page
    finally:
        page.close()


@contextlib.contextmanager
def opened(browser, path, width=1000, height=700, **options):
    """Opens an HTML file; yields a playwright Page. Script errors and network requests fail the test at the end.

    Args:
        browser: playwright Browser.
        path: pathlib.Path of the file.
        width, height: Size of the window in px.
        options: Options of playwright's `new_context`.
    """
    with contextlib.closing(
        browser.new_context(viewport={"width": width, "height": height}, offline=True, **options)
    ) as context:
        page = context.new_page()
        errors, asked = [], []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        yield page
        assert errors == []
        assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
