"""The web page: what it weighs on the wire, and how soon something is on the screen."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, sync_playwright

from benchmarks.measure import Figure
from reference_server.resources import web_folder

BUDGET_BYTES: Final = 200_000
ROUNDS: Final = 9
FLOOR: Final = "<!doctype html><title>floor</title><p>Something to see"
PAINT: Final = """() => new Promise((resolve) => new PerformanceObserver((list) => {
  const found = list.getEntriesByName('first-contentful-paint')[0];
  if (found) resolve(found.startTime);
}).observe({ type: 'paint', buffered: true }))"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Write no line for each request."""


@contextmanager
def _served() -> Iterator[str]:
    """Serve the page, and beside it the smallest page there can be; yield the address."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(web_folder(), Path(folder) / "static")
        shutil.copy(web_folder() / "index.html", folder)
        (Path(folder) / "floor.html").write_text(FLOOR)
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _first_paint_ms(browser: Browser, url: str) -> float:
    """Return when a browser that knows nothing of the page shows its first content."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(url)
    paint_ms = page.evaluate(PAINT)
    context.close()
    return float(paint_ms)


def _first_paint() -> Iterator[Figure]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        return
    with _served() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        pairs = [
            (_first_paint_ms(browser, f"{url}/index.html"), _first_paint_ms(browser, f"{url}/floor.html"))
            for _ in range(ROUNDS + 1)
        ][1:]
        browser.close()
    yield Figure(
        "first paint of the page, against one line of HTML",
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
        statistics.median(ours / floor for ours, floor in pairs),
        unit="ms",
    )


def run() -> Iterator[Figure]:
    """Weigh the built page, then open it."""
    for coding, suffix in (("brotli", "br"), ("gzip", "gz")):
        files = [path for path in web_folder().glob(f"*.{suffix}") if not path.name.startswith("licences")]
        weight = sum(path.stat().st_size for path in files)
        figure = Figure.count(f"bytes of the page with {coding}, against its budget", weight, BUDGET_BYTES)
        yield Figure(figure.what, figure.ours, figure.other, figure.ratio, unit="", goal="<= 1")
    yield from _first_paint()
