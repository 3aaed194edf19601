"""The built site: `mkdocs build --strict` passes, every link leads somewhere, nothing comes from another server."""

from __future__ import annotations

import os
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import pytest

from lossbench.cli.main import VERBS
from lossbench.registry import KINDS, Registry

pytest.importorskip("material", reason="pip install 'lossbench[docs]'")
pytest.importorskip("mkdocstrings", reason="pip install 'lossbench[docs]'")

from mkdocs.config.defaults import MkDocsConfig

from docsite import hooks, plugins, suitekeys

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("docsite")]


class Page(HTMLParser):
    """The ids, links and sources of a page, and the text of its headings."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.sources: list[str] = []
        self.pictures_without_text = 0
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in ("script", "img", "iframe") and "src" in given:
            self.sources.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.sources.append(given["href"])
        self.pictures_without_text += tag == "img" and not given.get("alt")


@pytest.fixture(scope="module")
def site(built: Path) -> dict[str, Page | None]:
    """{path: page, or None for another file} of the site."""
    files = [file for file in built.rglob("*") if file.is_file()]
    return {file.relative_to(built).as_posix(): Page(file) if file.suffix == ".html" else None for file in files}


def pages(site: dict[str, Page | None]) -> dict[str, Page]:
    return {path: page for path, page in site.items() if page is not None and path != "404.html"}


def test_every_link_leads_to_a_page_and_a_place_on_it(site: dict[str, Page | None]) -> None:
    """MkDocs looks at the links of Markdown alone; this at those of generated tables, too."""
    broken = []
    for path, page in pages(site).items():
        for link in page.links + page.sources:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            place = Path(os.path.normpath(Path(path).parent / unquote(parts.path))).as_posix() if parts.path else path
            target = site.get(place)
            missing = target is not None and parts.fragment and unquote(parts.fragment) not in target.ids
            if place not in site or missing:
                broken.append(f"{path}: {link}")
    assert not broken


def test_nothing_comes_from_another_server(site: dict[str, Page | None]) -> None:
    assert len(pages(site)) > 30
    for path, page in pages(site).items():
        assert not [source for source in page.sources if urlsplit(source).netloc], path


def test_every_picture_says_in_words_what_it_shows(site: dict[str, Page | None]) -> None:
    for path, page in pages(site).items():
        assert not page.pictures_without_text, path


def test_every_key_verb_and_plugin_is_in_the_built_reference(site: dict[str, Page | None]) -> None:
    assert {section.anchor(key) for section in suitekeys.SECTIONS for key in section.fields} <= site[
        "reference/suite.html"
    ].ids
    assert {name for name, _ in VERBS} <= site["reference/cli.html"].ids
    for kind in KINDS:
        name, _ = plugins.PAGES[kind]
        for plugin in Registry(kind):
            assert plugin.name in site[f"reference/{name}.html"].ids
            assert plugins.path_of(plugin) in site[f"reference/api/{name}.html"].ids
    assert {plugin.name for plugin in Registry("loss")} <= site["catalogue.html"].ids


def test_links_out_of_the_folder_lead_to_the_repository_where_that_is_known() -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="add.md"))
    text = "[a](../examples/third_party) [b](other.md) [c](../docs/tour.md) [d](../nowhere.md)"
    config = MkDocsConfig()
    config.extra = {}
    kept = "[b](other.md) [c](../docs/tour.md) [d](../nowhere.md)"
    assert hooks.on_page_markdown(text, page, config, None) == f"a {kept}"
    config.extra = {"repository": "https://example.org/lossbench/"}
    made = hooks.on_page_markdown(text, page, config, None)
    assert made == f"[a](https://example.org/lossbench/blob/main/examples/third_party) {kept}"


def test_the_menu_leads_to_the_leaderboards_where_they_are_published() -> None:
    config = MkDocsConfig()
    config.site_url, config.nav, config.extra = "https://example.org/lossbench/", [], {"leaderboards": "yes"}
    assert hooks.on_config(config).nav == [{"Leaderboards": "https://example.org/lossbench/leaderboards/index.html"}]
    config.nav, config.site_url = [], ""
    assert hooks.on_config(config).nav == []
