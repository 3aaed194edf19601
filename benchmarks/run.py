"""Speed of lossbench against its peers: `python benchmarks/run.py [GROUP...]`.

Without a name all groups run, but for the long ones (`scale`). Peers are the extra `bench`; a missing one is skipped by
name.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.measure import Options, Row, Spread, Table, host

GROUPS = ("losses", "cdfl", "metrics", "data", "startup", "leaderboard", "sweep")
#: Those that run only when named: minutes, and kept in a report of their own.
LONG = ("scale", "verify", "resampling", "report")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join((*GROUPS, *LONG)))
    parser.add_argument("--json", action="store_true", help="figures as JSON on stdout")
    parser.add_argument("--markdown", action="store_true", help="tables as in docs/performance.md on stdout")
    parser.add_argument("--rounds", type=int, default=9, help="rounds per table (default 9)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch (default 2)")
    parser.add_argument("--device", default="cpu", help="device of the torch groups (default cpu)")
    parser.add_argument("--stored", type=Path, metavar="FILE", help="show the figures of an earlier --json instead")
    parser.add_argument("--quick", action="store_true", help="small inputs: does it run?")
    arguments = parser.parse_args()
    unknown = set(arguments.groups) - {*GROUPS, *LONG}
    if unknown:
        parser.error(f"no group {', '.join(sorted(unknown))}; there are {', '.join((*GROUPS, *LONG))}")
    options = Options(arguments.rounds, arguments.threads, arguments.device, arguments.quick)
    stored = json.loads(arguments.stored.read_text()) if arguments.stored else None
    if stored is None:
        prepare(options)
    # Decided by the reader, not by the width of a pipe.
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    report = stored or {"host": host(), "options": vars(options), "groups": {}}
    if not (arguments.json or arguments.markdown):
        console.print("  ".join(f"{key}: {value}" for key, value in report["host"].items()))
    for group in arguments.groups or GROUPS:
        if stored:
            tables = [Table.from_json(table) for table in stored["groups"].get(group, [])]
        else:
            tables = importlib.import_module(f"benchmarks.{group}").run(options)
            report["groups"][group] = [table.to_json() for table in tables]
        for table in tables:
            if arguments.markdown:
                print(markdown(table), flush=True)
            elif not arguments.json:
                show(console, table)
    if arguments.json:
        json.dump(report, sys.stdout, indent=1)
        print()
    return 0


def prepare(options: Options) -> None:
    """Threads and allocator of this process, before anything is timed."""
    import torch

    from lossbench.training.allocator import keep_memory

    torch.set_num_threads(options.threads)
    keep_memory()  # every candidate on warm memory, as in a training run


def show(console: Console, table: Table) -> None:
    """One table on the terminal; a peer's name is dim, a missed target red."""
    view = RichTable(title=table.title, title_justify="left", caption=table.note, caption_justify="left")
    for title in headings(table):
        view.add_column(title, justify="left" if not view.columns else "right")
    for row in table.rows:
        view.add_row(*(cell.replace("missed", "[red]missed[/red]") for cell in cells(table, row)), style=style(row))
    console.print(view)


def style(row: Row) -> str:
    return "dim" if row.peer else ""


def markdown(table: Table) -> str:
    """One table for docs/performance.md; our rows are bold."""
    lines = [f"**{table.title}**", "", "| " + " | ".join(headings(table)) + " |"]
    lines.append("|---|" + "--:|" * (len(headings(table)) - 1))
    for row in table.rows:
        name, *figures = cells(table, row)
        lines.append("| " + " | ".join((name if row.peer else f"**{name}**", *figures)) + " |")
    return "\n".join([*lines, "", *([table.note, ""] if table.note else [])])


def headings(table: Table) -> list[str]:
    return ["", "ms", "quartiles", f"x {table.baseline}", "quartiles", "target", *extras(table)]


def extras(table: Table) -> list[str]:
    """Titles of the further columns, in the order they turn up."""
    return list(dict.fromkeys(title for row in table.rows for title in row.extra))


def cells(table: Table, row: Row) -> list[str]:
    """Name, ms and its quartiles, ratio and its quartiles, target and verdict, further columns."""
    verdict = ""
    if row.target is not None or row.target_ms is not None:
        sign = ">=" if row.at_least else "<="
        target = f"{row.target:g}" if row.target_ms is None else f"{row.target_ms:g} ms"
        verdict = f"{sign} {target}" + ("" if row.met is None else " met" if row.met else " missed")
    more = (_text(row.extra.get(title, "")) for title in extras(table))
    return [row.name, *_spread(row.ms), *_spread(row.ratio), verdict, *more]


def _spread(spread: Spread | None) -> tuple[str, str]:
    if spread is None:
        return "", ""
    return _text(spread.median), f"{_text(spread.low)}-{_text(spread.high)}"


def _text(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
