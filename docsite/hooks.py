"""MkDocs' hooks: generated pages, and links of docs/*.md that lead out of docs/."""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from docsite import api, commands, plugins, suitekeys  # noqa: E402

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)\s]+)\)")


def on_config(config: Any) -> Any:
    """Links to the leaderboards and to the repository, where these are known (.github/workflows/docs.yml)."""
    if config.extra.get("leaderboards") and config.site_url:
        config.nav.append({"Leaderboards": config.site_url.rstrip("/") + "/leaderboards/index.html"})
    if config.extra.get("repository"):
        link = {"icon": "fontawesome/brands/git-alt", "link": config.extra["repository"], "name": "Repository"}
        config.extra["social"] = [link]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add what is made from the code."""
    made = {
        "catalogue.md": plugins.catalogue(),
        "reference/suite.md": suitekeys.page(),
        "reference/cli.md": commands.page(),
    }
    made |= {f"reference/{name}.md": plugins.parameters(kind) for kind, (name, _) in plugins.PAGES.items()}
    made |= {f"reference/api/{page.file}.md": api.text(page) for page in api.PAGES}
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links out of docs/ (`../examples/...`) lead to the repository, where its address is known; else they are text."""

    def outside(match: re.Match[str]) -> str:
        label, target = match.groups()
        place = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), target.split("#")[0]))
        if place.startswith("docs/") or not (ROOT / place).exists():
            return match[0]
        repository = config.extra.get("repository")
        return f"[{label}]({repository.rstrip('/')}/blob/main/{place})" if repository else label

    return _LINK.sub(outside, markdown)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Material's search is a dialog without a name."""
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"')
