"""The report in a real browser, opened from disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(not CHROMIUM, reason="no chromium; Debian: apt-get install chromium"),
]
TUNED = "blocks/streets-fcn-timm-weights-none-tuned"
KINDS = ("index.html", "blocks/streets-fcn", "blocks/context", "losses/cdfl", "runs/", "dials/", "guide.html", TUNED)


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


def page_of(site: Path, kind: str) -> str:
    return next(p for p in sorted(site.rglob("*.html")) if p.relative_to(site).as_posix().startswith(kind)).as_uri()


@pytest.fixture
def opened(browser: playwright.Browser, site: Path):
    """Opens pages; no request may leave the folder, and no page may complain."""
    complaints: list[str] = []
    contexts = []

    def open_page(kind: str, width: int = 1280, scheme: str = "light", context=None, root=site) -> playwright.Page:
        context = context or browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda r: None if r.url.startswith((root.as_uri(), "data:", "blob:")) else complaints.append(r.url),
        )
        page.on("requestfailed", lambda r: complaints.append(f"failed: {r.url}"))
        page.goto(page_of(root, kind))
        return page

    open_page.complaints = complaints
    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def drawn(page: playwright.Page) -> None:
    """Scrolls until every figure is there."""
    for plot in page.locator("[data-plot]").all():
        plot.scroll_into_view_if_needed()
        plot.locator("svg.main-svg").first.wait_for(timeout=20_000)


@pytest.mark.parametrize("kind", KINDS)
def test_pages_are_accessible_and_fit_a_phone(opened, site: Path, tuned_site: Path, kind: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for width, scheme in ((1280, "light"), (375, "dark")):
        page = opened(kind, width, scheme, root=tuned_site if kind == TUNED else site)
        drawn(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert opened.complaints == []
        found = Axe().run(page)
        opened.complaints.clear()  # axe asks for the style sheet, which the page's own policy forbids
        assert found.violations_count == 0, found.generate_report()


def rows(page: playwright.Page) -> list[str]:
    return [row.inner_text().split("\n")[0].strip() for row in page.locator("table.board tbody tr:visible th").all()]


def scores(page: playwright.Page) -> list[float]:
    return [
        float(cell.get_attribute("data-v"))
        for cell in page.locator("table.board tbody tr:visible td:nth-child(2)").all()
    ]


def test_a_leaderboard_sorts_by_click_and_by_key(opened) -> None:
    page = opened("blocks/streets-fcn")
    assert scores(page) == sorted(scores(page), reverse=True)
    head = page.locator("table.board thead th", has_text="mIoU").first
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert scores(page) == sorted(scores(page))
    assert head.get_attribute("aria-sort") == "ascending"
    name = page.locator("table.board thead th").first.locator("button")
    name.focus()
    page.keyboard.press("Enter")
    assert rows(page) == sorted(rows(page), key=str.lower)
    assert head.get_attribute("aria-sort") == "none"


def test_a_leaderboard_filters(opened) -> None:
    page = opened("blocks/streets-fcn")
    count = len(rows(page))
    page.locator("#filter").fill("cdfl")
    assert all("cdfl" in row for row in rows(page))
    assert page.locator("#shown").inner_text() == f"1 of {count} losses"
    page.locator("#filter").fill("")
    page.locator("#minseeds").fill("3")
    assert len(rows(page)) == 6


def test_the_theme_is_remembered(opened) -> None:
    page = opened("index.html")
    assert page.locator("html").get_attribute("data-theme") is None
    page.locator("#theme").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.locator(".card h3 a").first.click()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    playwright.expect(page.locator("#theme")).to_have_attribute(
        "aria-pressed", "true"
    )  # set by a script that comes later


def test_the_heat_map_and_the_matrix_have_two_views(opened) -> None:
    page = opened("blocks/streets-fcn")
    cell = page.locator("#heat tbody tr td[data-d]").first
    before = cell.inner_text()
    page.locator("#heatmode").click()
    assert cell.inner_text() != before
    assert cell.inner_text()[0] in "+−"
    run = opened("runs/")
    share = run.locator("#matrix tbody td").first
    before = share.inner_text()
    run.locator("#counts").click()
    assert share.inner_text() != before


def test_chips_show_and_hide_losses_in_all_figures(opened) -> None:
    page = opened("blocks/streets-fcn")
    drawn(page)
    bars = page.locator("#bars .trace.bars")
    shown = bars.count()
    page.locator("#bars .chips button[aria-pressed='true']").first.click()
    page.wait_for_function(f"document.querySelectorAll('#bars .trace.bars').length === {shown - 1}")
    assert page.locator("#pareto .chips button[aria-pressed='true']").count() == shown - 1


@pytest.mark.parametrize("kind", ["blocks/streets-fcn", TUNED])
def test_a_leaderboard_fits_1280_pixels(opened, site: Path, tuned_site: Path, kind: str) -> None:
    page = opened(kind, root=tuned_site if kind == TUNED else site)
    box = page.locator("#table .scroll")
    assert box.evaluate("box => box.scrollWidth - box.clientWidth") <= 0
    assert max(page.locator("#table tbody tr").evaluate_all("rows => rows.map(row => row.offsetHeight)")) < 120


def test_the_curve_of_a_search_is_drawn_with_its_choice_and_the_loss_as_is(opened, tuned_site: Path) -> None:
    page = opened(TUNED, root=tuned_site)
    drawn(page)
    traces = page.locator("#trials [data-plot]").evaluate("plot => plot.data.map(trace => [trace.x, trace.mode])")
    assert len(traces) == 3 * 3  # of each loss: its trials, itself as is, the choice
    assert sorted(len(x) for x, _ in traces) == [1] * 6 + [3] * 3
    assert sorted(mode for x, mode in traces if len(x) == 3) == ["lines+markers", "lines+markers", "markers"]
    assert page.locator("#expected .trace.scatter").count() == 3


def test_it_reads_without_javascript(browser: playwright.Browser, site: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_of(site, "blocks/streets-fcn"))
    assert len(rows(page)) == 9
    assert page.locator("noscript").count() > 0
    context.close()
