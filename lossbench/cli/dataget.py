"""`lossbench data get`: the files of a dataset, where they go, and fetching those that anybody may fetch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lossbench.cli.common import print_json, stderr, stdout
from lossbench.cli.dataplace import is_readable, read_from, state
from lossbench.errors import ConfigError, SetupError

if TYPE_CHECKING:
    from lossbench.data.download import Progress
    from lossbench.datasets._official import Archive
    from lossbench.plugin import Plugin


def get(
    plugin: Plugin, place: dict[str, Any], data_root: Path | None, *, url: str | None, yes: bool, json: bool
) -> None:
    """Print how to get the dataset; where that is allowed to anybody, fetch it (not with `json`, which only reads).

    Args:
        place: see `dataplace.place`.
        url: another address of the archive.

    Raises:
        ConfigError: `url` is no address, or for a dataset that is not fetched.
        SetupError: see `download.obtain`.
    """
    if url is not None:
        from lossbench.data.download import check_url

        check_url(url)
    loaded = plugin.load()
    archives: list[Archive] = list(getattr(loaded, "archives", ()))
    fetchable = next((archive for archive in archives if archive.fetchable), None)
    if url is not None and fetchable is None:
        raise ConfigError(f"{plugin.name} is not fetched: --url is for datasets that are", hint="leave it out")
    facts = place | {label: getattr(loaded, label, "") for label in ("how_to_get", "licence", "homepage")}
    if json:
        print_json(facts | {"files": [vars(archive) for archive in archives]})
        return
    _print(facts, archives)
    if fetchable is not None:
        _fetch(plugin, fetchable, Path(place["folder"]), data_root, url=url or fetchable.url, yes=yes)


def _print(facts: dict[str, Any], archives: list[Archive]) -> None:
    out = stdout()
    out.print(f"{facts['name']}: {facts['how_to_get'] or 'nothing to get'}", soft_wrap=True)
    for archive in archives:
        out.print(f"  {archive.file}: {archive.holds}; unpacks to {archive.top}/", soft_wrap=True)
        if archive.url:
            out.print(f"    {archive.url}", soft_wrap=True)
        if archive.md5:
            out.print(f"    expected MD5: {archive.md5}", soft_wrap=True)
    if facts["folder"]:
        out.print(
            f"{'goes into' if archives else 'expected at'}: {facts['folder']} ({read_from(facts) or state(facts)})",
            soft_wrap=True,
        )
    for label in ("licence", "homepage"):
        if facts[label]:
            out.print(f"{label}: {facts[label]}", soft_wrap=True)


def _fetch(plugin: Plugin, archive: Archive, folder: Path, data_root: Path | None, *, url: str, yes: bool) -> None:
    from lossbench.data.download import obtain
    from lossbench.data.roots import data_root as require_data_root

    console = stderr()
    if is_readable(plugin, folder):
        console.print(f"nothing to do: it is there; look at it with `lossbench data check {plugin.name}`")
        return
    if (folder / archive.top).exists():
        raise SetupError(
            f"{folder / archive.top} is there, but not all of the dataset is in it",
            hint=f"`lossbench data check {plugin.name}` says what is missing; or move it away, then run this again",
        )
    # Where nobody can be asked, who calls `get` wants it.
    asks = not yes and sys.stdin.isatty() and sys.stderr.isatty()
    if asks and not typer.confirm(f"Download {archive.file} ({archive.holds})?", default=True, err=True):
        raise typer.Exit(130)
    root = require_data_root(data_root)
    with _progress(archive.file) as progress:
        obtain(
            url,
            archive.md5,
            root / f"{archive.file}.part",
            folder,
            on_bytes=progress,
            say=lambda message: console.print(message, soft_wrap=True),
        )
    console.print(f"done; look at it with `lossbench data check {plugin.name}`", soft_wrap=True)


@contextmanager
def _progress(what: str) -> Iterator[Progress]:
    """Bytes fetched: a bar on a terminal; elsewhere a line at the beginning."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = stderr()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(what, total=None)
    console.print(f"fetching {what}", soft_wrap=True)
    bar.start()

    def progress(done: int, total: int | None) -> None:
        bar.update(task, completed=done, total=total)

    try:
        yield progress
    finally:
        bar.stop()
