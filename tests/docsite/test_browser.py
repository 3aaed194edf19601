"""The documentation in a real browser: readable by everybody, and on a phone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("material", reason="pip install 'lossbench[docs]'")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.xdist_group("docsite"),
    pytest.mark.skipif(not CHROMIUM, reason="no chromium; Debian: apt-get install chromium"),
]
PAGES = ("index", "tour", "catalogue", "reading", "reference/suite", "reference/cli", "reference/api/losses")


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_a_reader_out(browser: playwright.Browser, built: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    found = []
    for name in PAGES:
        page.goto((built / f"{name}.html").as_uri())
        found += [(name, p["id"], p["nodes"][0]["html"]) for p in axe.run(page).response["violations"]]
    page.close()
    # Material gives several landmarks one name: the levels of its menu, its copy buttons.
    assert not [problem for problem in found if problem[1] != "landmark-unique"]


def test_no_page_is_wider_than_a_phone(browser: playwright.Browser, built: Path) -> None:
    page = browser.new_page(viewport={"width": 375, "height": 800})
    wide = []
    for file in sorted(built.rglob("*.html")):
        page.goto(file.as_uri())
        if page.evaluate("document.documentElement.scrollWidth") > 375:
            wide.append(file.name)
    page.close()
    assert not wide
