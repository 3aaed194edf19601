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
    from lossbench.data.roots import cache_root

    store = Store(results)
    done = {stored.record.id for stored in store.read_all()[0]}
    folders = [folder for folder in sorted((store.root / "runs").glob("*")) if everything or folder.name in done]
    if cache:
        folders += sorted(cache_root().glob("*"))
    freed = 0
    removed = 0
    for folder in folders:
        lock = FileLock(folder / "lock", blocking=False)
        if (folder / "lock").exists():
            try:
                with lock:
                    pass
            except Timeout:
                stderr().print(f"kept {folder}: its cell is running", soft_wrap=True)
                continue
        freed += _size(folder)
        removed += 1
        if yes:
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    verb = "removed" if yes else "would remove (say --yes)"
    typer.echo(f"{verb} {removed} folders, {freed / 2**20:.1f} MiB; records are kept")


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
