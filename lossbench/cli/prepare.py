"""`lossbench data prepare` and `lossbench data list`: the decoded datasets on disk."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from lossbench.cli.common import print_json, stderr, stdout
from lossbench.errors import SetupError

if TYPE_CHECKING:
    from lossbench.data.build import Progress
    from lossbench.datasets.base import SegmentationDataset

#: Bytes that are decoded without a question where nobody can be asked.
UNASKED = 20e9


def prepare(
    datasets: Sequence[tuple[str, SegmentationDataset, Sequence[str]]], cache_root: Path, *, yes: bool, json: bool
) -> None:
    """Decode the splits of (label, dataset, splits) that are not in the cache yet. Says the size first: on a
    terminal it asks, elsewhere it goes on up to UNASKED bytes.

    Raises:
        SetupError: no room on the disk, or more than UNASKED without `--yes`.
        DataError: the data is not there or bad.
    """
    from lossbench.data.build import check_space, estimate
    from lossbench.data.cache import is_cached, open_split
    from lossbench.data.entries import megabytes

    wanted = [(label, dataset, split) for label, dataset, splits in datasets for split in splits]
    missing = [item for item in wanted if not is_cached(item[1], item[2], cache_root)]
    if missing:
        needed = sum(estimate(dataset, split) for _, dataset, split in missing)
        names = ", ".join(f"{label} {split}" for label, _, split in missing)
        disk = next(p for p in (cache_root, *cache_root.parents) if p.exists())
        free = shutil.disk_usage(disk).free
        text = f"{names}: about {megabytes(needed)} into {cache_root} ({megabytes(free)} free)"
        stderr().print(text, soft_wrap=True)
        check_space(disk, needed)
        _consent(needed, yes)
    rows = []
    for label, dataset, split in wanted:
        with decoding(f"{label} {split}") as progress:
            opened = open_split(dataset, split, cache_root=cache_root, progress=progress, say=tell)
        rows.append({"name": label, "split": split, "images": len(opened), "folder": str(opened.folder)})
    if json:
        print_json(rows)
    else:
        for row in rows:
            stdout().print(f"{row['name']} {row['split']}: {row['images']} images, {row['folder']}", soft_wrap=True)


def _consent(needed: float, yes: bool) -> None:
    if yes:
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        if not typer.confirm("Decode?", default=True, err=True):
            raise typer.Exit(130)
    elif needed > UNASKED:
        raise SetupError("more than is decoded without a question", hint="add --yes")


def tell(message: str) -> None:
    """A line of news on stderr."""
    stderr().print(message, soft_wrap=True)


@contextmanager
def decoding(what: str) -> Iterator[Progress]:
    """A progress callback that shows images decoded: a bar on a terminal, elsewhere a line at the end; nothing when
    it is never called (cached before)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = stderr()
    columns = (TextColumn("decoding {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(what, total=None)
    seen = 0

    def progress(done: int, total: int) -> None:
        nonlocal seen
        if not seen:
            bar.start()
        seen = done
        bar.update(task, completed=done, total=total)

    try:
        yield progress
    finally:
        bar.stop()
    if seen:
        console.print(f"decoded {what}: {seen} images", soft_wrap=True)


def list_cached(cache_root: Path, names: Iterable[str], *, json: bool) -> None:
    """What the cache holds, on stdout; only datasets of `names`, if there are any."""
    from lossbench.data.entries import cache_entries, megabytes

    chosen = tuple(f"{name}-" for name in names)
    rows: list[dict[str, Any]] = [
        {"entry": entry.folder.name, "bytes": entry.bytes, "usable": entry.complete}
        for entry in cache_entries(cache_root)
        if not chosen or entry.folder.name.lstrip(".").startswith(chosen)
    ]
    if json:
        print_json({"cache": str(cache_root), "entries": rows})
        return
    out = stdout()
    total = sum(row["bytes"] for row in rows)
    out.print(f"cache: {cache_root}, {megabytes(total)} (free it with `lossbench clean --cache`)", soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    for row in rows:
        table.add_row(row["entry"], megabytes(row["bytes"]), "" if row["usable"] else "left over")
    out.print(table)
