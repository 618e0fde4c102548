"""A browser, and pages opened in it that must ask for nothing and say no error."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flopscan import analysis, api
from flopscan.report import page as pages
from flopscan.report import report as reports
from flopscan.report.report import Report

ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-default-apps", "--disable-sync", "--font-render-hinting=none",
]  # fmt: skip
NAMES = "chromium", "chromium-browser", "google-chrome"
Opener = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, without a window."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.fail("there is no chromium here: install it (apt-get install chromium), or say where it is in CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def vmamba() -> Report:
    trace = api.trace_of("vmamba_tiny", origin={"again": "flopscan count vmamba_tiny"})
    return reports.make(analysis.price(trace))


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Opener]:
    """Opens the page of a report; at the end no page may have asked the network, failed, or said an error."""
    wrong: list[str] = []
    contexts = []

    def open_page(report: Report, *, width: int = 1400, roofline: Any = None, **context: Any) -> Any:
        file = tmp_path / f"report{len(contexts)}.html"
        file.write_text(pages.render(report, roofline=roofline), encoding="utf-8")
        made = browser.new_context(viewport={"width": width, "height": 900}, reduced_motion="reduce", **context)
        contexts.append(made)
        page = made.new_page()
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: request.url == file.as_uri() or wrong.append(f"request: {request.url}"))
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [one for one in wrong if not one.startswith("request: blob:")] == []
