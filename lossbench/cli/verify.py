"""`lossbench verify`: whether records may stand on the leaderboard, whoever made them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from lossbench.cli.arguments import Argument, Option
from lossbench.cli.common import DEFAULT_RESULTS, JsonOption, PluginOption, open_store, stdout
from lossbench.errors import ConfigError, disk_error


def verify(
    results: Annotated[Path, Argument(metavar="RESULTS", help="The results folder.", show_default=True)] = (
        DEFAULT_RESULTS
    ),
    file: Annotated[
        list[Path] | None,
        Option("--file", metavar="FILE", help="Only this file of it. May be repeated.", show_default=False),
    ] = None,
    changed_since: Annotated[
        str | None,
        Option(
            "--changed-since",
            metavar="REF",
            help="Only what differs from this commit of git; also tells of records that are changed or deleted.",
            show_default=False,
        ),
    ] = None,
    allow_changes: Annotated[
        bool, Option("--allow-changes", help="Changed and deleted records are warnings, not problems.")
    ] = False,
    strict: Annotated[bool, Option("--strict", help="Warnings fail, too.")] = False,
    summary: Annotated[
        Path | None,
        Option(
            "--summary",
            metavar="FILE",
            help="Also write it in Markdown, with the rows touched.",
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    no_index: Annotated[bool, Option("--no-index", help="Read every record, also those in order before.")] = False,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> int:
    """Check records that anybody may have made: schema, identity, values, counts, copies, code.

    Every record is checked by itself and beside the others. Nothing in the folder is executed, and nothing changed.
    Exits with 1 when something is wrong. docs/submitting.md says what is checked, and what cannot be.

    \b
    Example:
      lossbench verify results
      lossbench verify results --changed-since origin/main --summary table.md
    """  # fmt: skip
    from lossbench.verification.changes import Changes, changes_since
    from lossbench.verification.touched import touched_by
    from lossbench.verification.verify import relative_to, verify_all, verify_changes

    cache = None if no_index else open_store(results).cache
    if changed_since is not None and file:
        raise ConfigError("--file and --changed-since contradict each other", hint="give one of them")
    if changed_since is not None or file:
        changes = Changes(tuple(relative_to(results, file or ())))
        if changed_since is not None:
            changes = changes_since(results, changed_since)
        report = verify_changes(results, changes, plugin or (), cache, allow_changes=allow_changes)
    else:
        report = verify_all(results, plugin or (), cache)
    from lossbench.views.verification import render, render_json, render_markdown

    if summary is not None:
        text = render_markdown(report, touched_by(report, results, cache), strict=strict)
        try:
            summary.write_text(text, encoding="utf-8")
        except OSError as error:
            raise disk_error(error) or ConfigError(f"cannot write {summary}: {error.strerror}") from error
    if json:
        sys.stdout.write(render_json(report, strict=strict))
    else:
        render(report, str(results), stdout(), strict=strict)
    return int(bool(report.errors or (strict and report.warnings)))
