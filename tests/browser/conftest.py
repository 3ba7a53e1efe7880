"""The system's Chromium, and pages in which nothing may go wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

#: what Chromium says of its software renderer, which is no fault of the page
ALLOWED = ("WebGL", "GPU stall", "swiftshader")
#: one process for all pages of a site and none for a graphics card take half the time
FLAGS = ("--no-sandbox", "--disable-gpu", "--in-process-gpu", "--process-per-site")


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api",
        reason="SKIPPED FOR LACK OF A BROWSER: playwright is missing; pip install -e '.[browser]'",
    )
    with playwright.sync_playwright() as started:
        names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        found = next(filter(None, map(shutil.which, names)), started.chromium.executable_path)
        if not Path(found).exists():
            pytest.skip("SKIPPED FOR LACK OF A BROWSER: install Chromium, or `playwright install chromium`")
        opened = started.chromium.launch(executable_path=found, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser):
    """Opens an address; at the end, no error, warning, dialog or request to ``elsewhere`` may have come up in it."""
    contexts, faults = [], []

    def opens(address, width=1400, elsewhere=(), height=900, **options):
        """``elsewhere``: beginnings of addresses that the page may ask for, reachable or not."""
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        here = address.rpartition("/")[0]

        def asked(request):
            if request.url.startswith("http") and not request.url.startswith((here, *elsewhere)):
                faults.append(request.url)

        def said(message):
            source = message.location.get("url", "")
            if message.type in ("error", "warning") and not source.startswith(("!", *elsewhere)):
                faults.append(message.text)

        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: (faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", asked)
        page.on("console", said)
        page.goto(address)
        return page

    yield opens
    for context in contexts:
        context.close()
    assert [fault for fault in faults if not any(words in fault for words in ALLOWED)] == []
