"""`lossbench submit`: new records, made ready for a pull request."""

from __future__ import annotations

import shlex
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lossbench.cli.arguments import Option
from lossbench.cli.common import DEFAULT_RESULTS, PluginOption, open_store, stdout
from lossbench.errors import ConfigError, disk_error

if TYPE_CHECKING:
    from lossbench.verification.handin import Gathered

#: Values of one sort that are listed.
_SHOWN = 8


def submit(
    source: Annotated[Path, Option("--from", metavar="FOLDER", help="The results folder with new records.")],
    to: Annotated[
        Path, Option("--to", metavar="FOLDER", help="The results folder that is to get them.", show_default=True)
    ] = DEFAULT_RESULTS,
    branch: Annotated[
        str | None,
        Option(
            "--branch",
            metavar="NAME",
            help="Also commit them on a new branch of the clone that holds --to.",
            show_default=False,
        ),
    ] = None,
    redact: Annotated[
        bool, Option("--redact", help="Leave out paths, user and host names; ids stay as they are.")
    ] = False,
    summary: Annotated[
        Path, Option("--summary", metavar="FILE", help="Where to write the table in Markdown.", dir_okay=False)
    ] = Path("submission.md"),
    dry_run: Annotated[bool, Option("--dry-run", help="Say what would happen; write nothing.")] = False,
    plugin: PluginOption = None,
) -> int:
    """Collect records that another results folder lacks, verify them, and make them ready for a pull request.

    Nothing is copied unless all of them pass `lossbench verify` beside those that are there. Says what they tell of
    this machine. A loss of your own needs its file (--plugin): it is handed in with the records.

    \b
    Example:
      lossbench submit --from my_results --to lossbench/results --branch my-loss
    """  # fmt: skip
    from lossbench.verification.handin import check_branch, commit, gather, plugin_files, put_in_place
    from lossbench.verification.privacy import leaves
    from lossbench.verification.verify import verify_new
    from lossbench.views.verification import render

    if branch is not None:
        check_branch(to, branch)
    out = stdout()
    with tempfile.TemporaryDirectory() as folder:
        gathered = gather(source, to, Path(folder), redact=redact)
        if not gathered.paths:
            raise ConfigError(f"{source} has no record that {to} lacks ({gathered.known} are there)")
        # All or nothing: a warning would be somebody else's to judge.
        report = verify_new(Path(folder), to, plugin or (), open_store(to).cache)
        if report.errors or report.warnings:
            render(report, str(source), out, strict=True)
            return 1
        plugins = plugin_files(plugin or (), gathered.records)
        already = f" ({gathered.known} are there)" if gathered.known else ""
        out.print(f"{len(gathered.paths)} new records, all in order{already}", soft_wrap=True)
        _tell(leaves(gathered.records), redact)
        for name, file in plugins.items():
            out.print(f"with the plugin file plugins/{name} ({file})", soft_wrap=True, markup=False)
        if dry_run:
            out.print("nothing written (--dry-run)")
            return 0
        added = put_in_place(gathered, to, plugins)
    table = _table(gathered, to)
    try:
        summary.write_text(table, encoding="utf-8")
    except OSError as error:
        raise disk_error(error) or ConfigError(f"cannot write {summary}: {error.strerror}") from error
    title = f"Add {len(gathered.paths)} records"
    if branch is not None:
        commit(to, branch, added, f"{title}\n\n{table}")
    out.print(f"\ncopied into {to}; the table for the pull request is {summary}. Next:", soft_wrap=True)
    for line in _next(to, branch, title, summary, bool(plugins)):
        out.print(f"  {line}", soft_wrap=True)
    return 0


def _tell(found: Mapping[str, Counter[str]], redact: bool) -> None:
    """What leaves the machine."""
    from lossbench.views.verification import plain

    out = stdout()
    out.print("\nWhat they tell of where they were made:")
    for key, values in found.items():
        shown = [plain(value) for value, _ in values.most_common(_SHOWN)]
        if shown and key != "private":
            more = f" (and {len(values) - _SHOWN} more)" if len(values) > _SHOWN else ""
            out.print(f"  {key}: {'; '.join(shown)}{more}", soft_wrap=True)
    if found["private"]:
        listed = ", ".join(plain(value) for value, _ in found["private"].most_common(_SHOWN))
        out.print(f"  private? {listed}", soft_wrap=True)
        if not redact:
            out.print("  --redact leaves out paths, user and host names; ids stay as they are")


def _table(gathered: Gathered, to: Path) -> str:
    from lossbench.index import read_table
    from lossbench.verification.touched import touched
    from lossbench.views.verification import markdown_rows

    table, _ = read_table(to / "records", open_store(to).cache, "checked")
    rows = touched(table, [int(record.id, 16) for record in gathered.records])
    heading = f"{len(gathered.paths)} new records in {len(rows)} rows. mIoU in percent, differences in points."
    return "\n".join([heading, "", *markdown_rows(rows)])


def _next(to: Path, branch: str | None, title: str, summary: Path, plugins: bool) -> list[str]:
    place = shlex.quote(str(to))
    if branch is None:
        folders = "records plugins" if plugins else "records"
        return [f"git -C {place} switch -c NAME && git -C {place} add {folders} && git -C {place} commit"]
    name, table = shlex.quote(branch), shlex.quote(str(summary.absolute()))
    return [
        f"git -C {place} push -u origin {name}",
        f"cd {place} && gh pr create --title {shlex.quote(title)} --body-file {table}",
    ]
