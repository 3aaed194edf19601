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
        url: another address of the archive; one that ends in / is a folder that holds the archives.

    Raises:
        ConfigError: `url` is no address, or for a dataset that is not fetched, or one file for several archives.
        SetupError: see `download.obtain`.
    """
    if url is not None:
        from lossbench.data.download import check_url

        check_url(url)
    loaded = plugin.load()
    archives: list[Archive] = list(getattr(loaded, "archives", ()))
    fetchable = [archive for archive in archives if archive.fetchable]
    if url is not None and not fetchable:
        raise ConfigError(f"{plugin.name} is not fetched: --url is for datasets that are", hint="leave it out")
    addresses = _addresses(plugin.name, fetchable, url)
    facts = place | {label: getattr(loaded, label, "") for label in ("how_to_get", "licence", "homepage")}
    if json:
        print_json(facts | {"files": [vars(archive) for archive in archives]})
        return
    _print(facts, archives)
    if fetchable:
        _fetch(plugin, addresses, Path(place["folder"]), data_root, yes=yes)


def _addresses(name: str, archives: list[Archive], url: str | None) -> dict[Archive, str]:
    """Where each archive is fetched. Raises ConfigError when `url` is one file and there are several."""
    if url is None:
        return {archive: archive.url for archive in archives}
    if url.endswith("/"):
        return {archive: url + archive.file for archive in archives}
    if len(archives) > 1:
        files = ", ".join(archive.file for archive in archives)
        raise ConfigError(
            f"{name} has {len(archives)} archives ({files}), --url gives one address",
            hint="give the folder that holds them, ending in /",
        )
    return dict.fromkeys(archives, url)


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


def _fetch(plugin: Plugin, addresses: dict[Archive, str], folder: Path, data_root: Path | None, *, yes: bool) -> None:
    """Fetch what is not there yet: each archive is unpacked wholly or not at all, so a folder of its own says it is."""
    from lossbench.data.download import obtain
    from lossbench.data.roots import data_root as require_data_root

    console = stderr()
    there = [archive for archive in addresses if (folder / archive.top).exists()]
    missing = [archive for archive in addresses if archive not in there]
    readable = is_readable(plugin, folder)
    if readable and not (there and missing):  # without any of them: in another layout
        console.print(f"nothing to do: it is there; look at it with `lossbench data check {plugin.name}`")
        return
    if not missing:
        raise SetupError(
            f"{folder / there[0].top} is there, but not all of the dataset is in it",
            hint=f"`lossbench data check {plugin.name}` says what is missing; or move it away, then run this again",
        )
    # Where nobody can be asked, who calls `get` wants it.
    asks = not yes and sys.stdin.isatty() and sys.stderr.isatty()
    wanted = " and ".join(f"{archive.file} ({archive.holds})" for archive in missing)
    if asks and not typer.confirm(f"Download {wanted}?", default=True, err=True):
        raise typer.Exit(130)
    root = require_data_root(data_root)
    for archive in missing:
        with _progress(archive.file) as progress:
            obtain(
                addresses[archive],
                archive.md5,
                root / f"{plugin.name}-{archive.file}.part",  # "images.tar.gz" may be another dataset's, too
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
