"""`lossbench clean`: free disk space without touching a result."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

from lossbench.cli.arguments import Option
from lossbench.cli.common import DEFAULT_RESULTS, ResultsOption, open_store, stderr, warn
from lossbench.errors import SetupError


def clean(
    results: ResultsOption = DEFAULT_RESULTS,
    everything: Annotated[
        bool, Option("--all", help="Also logs, predictions and checkpoints of unfinished cells.")
    ] = False,
    cache: Annotated[bool, Option("--cache", help="Also decoded datasets and indexes (rebuilt when needed).")] = False,
    yes: Annotated[bool, Option("--yes", "-y", help="Do it; without, only say what would go.")] = False,
) -> None:
    """Remove run folders of finished cells. Records are never touched; folders of running cells neither.

    \b
    Example:
      lossbench clean --all --yes
    """
    from lossbench.data.entries import cache_entries
    from lossbench.data.roots import cache_root
    from lossbench.history import StoreHistory
    from lossbench.index import index_files
    from lossbench.plan import UNDER_WAY
    from lossbench.runtable import hex_ids

    store = open_store(results)
    done = set(hex_ids(store.runs()[0].ids))
    folders = [folder for folder in sorted((store.root / "runs").glob("*")) if everything or folder.name in done]
    history = StoreHistory(store, {})
    freed = removed = 0
    for folder in folders:
        run = history.run_state(folder.name)
        if run is not None and run.state in UNDER_WAY:
            where = f" {run.message}" if run.message else ""
            stderr().print(f"kept {folder}: its cell is {run.state}{where}", soft_wrap=True)
            continue
        size = _size(folder)
        if yes:
            try:
                shutil.rmtree(folder)
            except OSError as error:  # a file that a process holds open stays on some file systems
                warn(f"{folder} is not removed whole: {error.strerror or error}")
                continue
        freed += size
        removed += 1
    # Only what the cache itself has put there: its root may be a folder that holds other things, too.
    for entry in cache_entries(cache_root()) if cache else ():
        freed += entry.bytes
        removed += 1
        if yes:
            entry.remove()
    for file in index_files(cache_root()) if cache else ():
        try:
            freed += file.stat().st_size
            if yes:
                file.unlink()
        except FileNotFoundError:  # another process was faster
            continue
        except OSError as error:
            raise SetupError(f"{file} cannot be removed: {error.strerror or error}") from error
    verb = "removed" if yes else "would remove (say --yes)"
    print(f"{verb} {removed} folders, {freed / 2**20:.1f} MiB; records are kept")


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
