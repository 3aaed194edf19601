"""`lossbench merge`: the records of other results folders, brought into this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from lossbench.cli.arguments import Argument, Option
from lossbench.cli.common import DEFAULT_RESULTS, JsonOption, ResultsOption, print_json, stderr, stdout

if TYPE_CHECKING:
    from lossbench.merge import Difference, Merged, Told

#: Lines about single records that are printed; --json has all.
_SHOWN = 20


def merge(
    other: Annotated[list[Path], Argument(metavar="OTHER...", help="Other results folders.", show_default=False)],
    results: ResultsOption = DEFAULT_RESULTS,
    dry_run: Annotated[bool, Option("--dry-run", help="Say what would happen; write nothing.")] = False,
    json: JsonOption = False,
) -> int:
    """Copy the records of other results folders into this one.

    A run that both have with the same numbers is one record. With different numbers both are reported, and nothing is
    overwritten. Records that are damaged, or cannot be, are reported and left out. Exits with 1 when there are any of
    these. Runs may go on meanwhile, and a merge may be repeated.

    \b
    Example:
      lossbench merge ../laptop/results /mnt/cluster/results
    """
    from lossbench.merge import merge as merge_records
    from lossbench.store import Store

    store = Store(results)
    with _progress() as progress:
        merged = merge_records(store, other, dry_run=dry_run, progress=progress)
    if json:
        print_json({"results": _plain(results), "dry_run": dry_run, "sources": [_source(item) for item in merged]})
    else:
        _print(results, merged, dry_run)
    return int(any(item.different or item.skipped for item in merged))


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """A count of records on a terminal, nothing elsewhere."""
    console = stderr()
    if not console.is_terminal:
        yield lambda done: None
        return
    with console.status("reading records") as status:

        def show(done: int) -> None:
            if done % 100 == 0:
                status.update(f"{done} records")

        yield show


def _print(results: Path, merged: Sequence[Merged], dry_run: bool) -> None:
    from rich.table import Table

    out = stdout()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("from", overflow="fold")
    for title in ("new", "same", "different", "skipped"):
        table.add_column(title, justify="right", no_wrap=True)
    for item in merged:
        numbers = (item.new, item.same, len(item.different), len(item.skipped))
        table.add_row(_plain(item.folder), *map(str, numbers))
    out.print(table)
    lines = [line for item in merged for found in item.different for line in _difference(found)]
    lines += [f"skipped {_plain(found.path)}: {_plain(found.reason)}" for item in merged for found in item.skipped]
    shown = lines[: 3 * _SHOWN]
    for line in shown:
        out.print(line, soft_wrap=True)
    if len(lines) > len(shown):
        out.print("and more (--json shows all)")
    richer = sum(len(item.richer) for item in merged)
    if richer:
        out.print(
            f"{richer} of the same have counts of boundaries and calibration that ours lack. Ours stay: move them away "
            "and merge again to have those (--json lists them).",
            soft_wrap=True,
        )
    new, different = sum(item.new for item in merged), sum(len(item.different) for item in merged)
    verb = "would be copied" if dry_run else "copied"
    kept = "; where numbers differ, ours are kept" if different else ""
    out.print(f"{new} record{'s' * (new != 1)} {verb} into {_plain(results)}{kept}", soft_wrap=True)


def _difference(found: Difference) -> list[str]:
    head = f"different {_plain(found.cell)} ({found.id}): {', '.join(found.differ)}"
    return [head, f"  ours:   {_told(found.ours)}", f"  theirs: {_told(found.theirs)}"]


def _told(told: Told) -> str:
    return f"mIoU {100 * told.miou:.4f} %, {_plain(told.machine)}, torch {_plain(told.torch)}, {_plain(told.path)}"


def _source(item: Merged) -> dict[str, Any]:
    return {
        "folder": _plain(item.folder),
        "new": item.new,
        "same": item.same,
        "richer": [_plain(path) for path in item.richer],
        "different": [
            {
                "id": found.id,
                "cell": _plain(found.cell),
                "differ": list(found.differ),
                "ours": _facts(found.ours),
                "theirs": _facts(found.theirs),
            }
            for found in item.different
        ],
        "skipped": [{"path": _plain(found.path), "reason": _plain(found.reason)} for found in item.skipped],
    }


def _facts(told: Told) -> dict[str, Any]:
    return {
        "path": _plain(told.path),
        "miou": None if told.miou != told.miou else told.miou,
        "machine": _plain(told.machine),
        "torch": _plain(told.torch),
    }


def _plain(text: object) -> str:
    """In one line, without anything that commands a terminal: a foreign folder may hold any names."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in str(text)[:500]
    )
