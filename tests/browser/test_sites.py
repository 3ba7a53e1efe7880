"""The documentation and the lineage of kedro-viz, served and opened in a browser."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from functools import partial

import pytest

from command_line import copied

WIDTHS = (1400, 390)
#: kedro-viz asks Google for its font, and does without it
FONTS = "https://fonts.googleapis.com/"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def is_free(port):
    """Of ports that kedro-viz takes: it refuses those above 49151."""
    with socket.socket() as attempt:
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@pytest.fixture(scope="module")
def documentation(project, browser, tmp_path_factory):
    """The address of the built site."""
    pytest.importorskip("mkdocs", reason="SKIPPED FOR LACK OF MKDOCS: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=project,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def lineage(project, browser, tmp_path_factory):
    """The address of kedro-viz, started as the README says."""
    port = next(filter(is_free, range(20000 + os.getpid() % 10000, 49000)))
    address = f"http://127.0.0.1:{port}/"
    copy = copied(project, tmp_path_factory.mktemp("lineage") / "project")
    command = [sys.executable, "-m", "kedro", "viz", "run", "--no-browser", "--host=127.0.0.1"]
    said = copy / "viz.log"
    with said.open("w") as log:
        started = subprocess.Popen(
            [*command, f"--port={port}"],
            cwd=copy,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}api/main", timeout=60).close()
                break
            except (urllib.error.URLError, OSError):
                assert started.poll() is None, said.read_text()
                assert time.monotonic() < deadline, said.read_text()
                time.sleep(0.2)
        yield address
    finally:
        os.killpg(started.pid, signal.SIGTERM)  # the server is a process of that process
        started.wait(30)


@pytest.mark.slow
def test_every_page_of_the_documentation_is_whole_and_fits_a_phone_and_a_screen(visit, documentation):
    page = visit(documentation, height=200)  # no more is painted than what widths need
    # every page reads the whole index, in half of its time; the next test searches in the real one
    index = json.loads(urllib.request.urlopen(f"{documentation}search/search_index.json").read())
    page.route("**/search_index.json", lambda route: route.fulfill(json={**index, "docs": []}))
    links = page.locator(".md-nav--primary a.md-nav__link[href]")
    pages = sorted(set(links.evaluate_all("all => all.map(a => a.href.split('#')[0])")))
    assert len(pages) > 25
    widths = WIDTHS
    for address in pages:
        page.goto(address)
        assert page.locator("article h1").count() == 1, address
        broken = "() => [...document.images].filter(i => !i.complete || i.naturalWidth === 0).map(i => i.src)"
        page.wait_for_function("() => [...document.images].every(i => i.complete)")
        assert page.evaluate(broken) == [], address
        for width in widths:
            page.set_viewport_size({"width": width, "height": 200})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (address, width)
        widths = widths[::-1]  # the next page is opened in the width of the last one


@pytest.mark.slow
def test_the_search_of_the_documentation_finds_a_metric(visit, documentation):
    page = visit(documentation)
    page.locator("input.md-search__input").fill("module density")
    page.locator(".md-search-result__link").first.wait_for()
    assert "metrics/" in " ".join(page.locator(".md-search-result__link").evaluate_all("all => all.map(a => a.href)"))


@pytest.mark.slow
def test_kedro_viz_draws_the_lineage_with_every_stage_which_opens_by_a_click(visit, lineage):
    page = visit(lineage, elsewhere=[FONTS])
    elements = page.locator(".pipeline-node")
    elements.first.wait_for()
    names = elements.locator(".pipeline-node__text").all_text_contents()
    stages = ["ingestion", "feature_landmarks", "baselines", "diffusion_training", "reconstruction", "evaluation"]
    assert {" ".join(stage.split("_")).casefold() for stage in stages} <= {
        " ".join(name.split("_")).casefold() for name in names
    }
    assert len(names) <= 42
    page.locator(".pipeline-node", has_text="ingestion").first.click(force=True)  # other boxes' lines may lie over it
    page.wait_for_function(f"() => document.querySelectorAll('.pipeline-node').length > {len(names)}")
