"""`lossbench clean`: free disk space without touching a result."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer
from filelock import FileLock, Timeout

from lossbench.cli.common import DEFAULT_RESULTS, ResultsOption, stderr
from lossbench.store import Store


def clean(
    results: ResultsOption = DEFAULT_RESULTS,
    everything: Annotated[
        bool, typer.Option("--all", help="Also logs, predictions and checkpoints of unfinished cells.")
    ] = False,
    cache: Annotated[bool, typer.Option("--cache", help="Also the decoded datasets (rebuilt when needed).")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it; without, only say what would go.")] = False,
) -> None:
    """Remove run folders of finished cells. Records are never touched; folders of running cells neither.

    \b
    Example:
      lossbench clean --all --yes
    """
    from lossbench.data.cache import cache_entries
    from lossbench.data.roots import cache_root

    store = Store(results)
    done = {stored.record.id for stored in store.read_all()[0]}
    folders = [folder for folder in sorted((store.root / "runs").glob("*")) if everything or folder.name in done]
    freed = removed = 0
    for folder in folders:
        if _is_running(folder):
            stderr().print(f"kept {folder}: its cell is running", soft_wrap=True)
            continue
        freed += _size(folder)
        removed += 1
        if yes:
            shutil.rmtree(folder)
    # Only what the cache itself has put there: its root may be a folder that holds other things, too.
    for entry in cache_entries(cache_root()) if cache else ():
        freed += entry.bytes
        removed += 1
        if yes:
            entry.remove()
    verb = "removed" if yes else "would remove (say --yes)"
    typer.echo(f"{verb} {removed} folders, {freed / 2**20:.1f} MiB; records are kept")


def _is_running(folder: Path) -> bool:
    if not (folder / "lock").exists():
        return False
    try:
        with FileLock(folder / "lock", blocking=False):
            return False
    except Timeout:
        return True


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
