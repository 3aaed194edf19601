"""What `lossbench verify` found, for a terminal, as JSON, and in Markdown for a comment on a pull request."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from lossbench.verification.problems import RULES, Problem
from lossbench.verification.touched import Touched
from lossbench.verification.verify import Report
from lossbench.views.data import json_text
from lossbench.views.grid import Entry, Grid, Header, number
from lossbench.views.terminal import draw, emit, print_notes, safe

#: Problems of one rule that are shown; --json has all.
_SHOWN = 20
#: Rows of the table in a comment: GitHub takes 65,536 characters.
_ROWS = 100


def verdict(report: Report, strict: bool) -> str:
    """One line."""
    what = f"{report.checked} record{'s' * (report.checked != 1)}"
    if report.added is not None:
        what += f" of {report.total}"
    said = f"{report.errors} problem{'s' * (report.errors != 1)}" if report.errors else "all in order"
    if report.warnings:
        said += f", {report.warnings} warning{'s' * (report.warnings != 1)}" + (" (strict: they fail)" * strict)
    return f"{what}: {said}"


def render(report: Report, title: str, console: Console, *, strict: bool = False) -> None:
    """Print the rules with what each found, then the problems, and what to do about them."""
    emit(Text(safe(f"{title}: {verdict(report, strict)}", console), style="bold"), console)
    console.print()
    headers = [Header("rule", numeric=False), Header("problems"), Header("warnings")]
    width = max(map(len, RULES)) + 1
    rows = [
        [Entry(rule.ljust(width) + RULES[rule].says), Entry(str(errors or "-")), Entry(str(warnings or "-"))]
        for rule, (errors, warnings) in report.by_rule().items()
    ]
    draw(Grid(headers, rows), console)
    for rule in RULES:
        found = [problem for problem in report.problems if problem.rule == rule]
        if not found:
            continue
        lines = [f"{rule}: {RULES[rule].remedy}."]
        lines += [f"  {plain(_line(problem))}" for problem in found[:_SHOWN]]
        if len(found) > _SHOWN:
            lines.append(f"  and {len(found) - _SHOWN} more (--json shows all)")
        print_notes([safe(line, console) for line in lines], console)
    notes = []
    if report.older:
        notes.append(f"{report.older} made by code that is known, but not of now: stale on the leaderboard.")
    if report.read < report.checked:
        notes.append(f"{report.checked - report.read} unchanged since they were last in order (--no-index reads all).")
    if notes:
        print_notes([safe(note, console) for note in notes], console)


def _line(problem: Problem) -> str:
    return f"{'warning: ' * problem.warning}{problem.path}: {problem.message}"


def plain(text: str) -> str:
    """Without anything that commands a terminal: a foreign folder may hold any names."""
    shown = text.encode(errors="backslashreplace").decode()[:600]
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in shown)


def as_json(report: Report, *, strict: bool = False) -> dict[str, Any]:
    """Plain data: `ok`, counts, `rules`, `problems`."""
    return {
        "ok": not (report.errors or (strict and report.warnings)),
        "records": report.total,
        "checked": report.checked,
        "read": report.read,
        "older_code": report.older,
        "rules": {rule: {"problems": e, "warnings": w} for rule, (e, w) in report.by_rule().items()},
        "problems": [
            {key: plain(value) if isinstance(value, str) else value for key, value in asdict(problem).items()}
            | {"remedy": RULES[problem.rule].remedy}
            for problem in report.problems
        ],
    }


def render_json(report: Report, *, strict: bool = False) -> str:
    return json_text(as_json(report, strict=strict))


# --- Markdown ---


def render_markdown(report: Report, rows: Sequence[Touched], *, strict: bool = False) -> str:
    """A comment: verdict, the rows of the leaderboard that are touched, the problems. Nothing in it is markup of
    whoever made the records."""
    fails = report.errors or (strict and report.warnings)
    lines = [f"### {'Not in order' if fails else 'In order'}: {verdict(report, strict)}", ""]
    lines += markdown_rows(rows)
    if report.problems:
        lines += ["| rule | file | what is wrong |", "|---|---|---|"]
        for problem in report.problems[:_ROWS]:
            word = f"{problem.rule}{' (warning)' * problem.warning}"
            lines.append(f"| {word} | {code(problem.path)} | {code(problem.message)} |")
        lines.append("")
        if len(report.problems) > _ROWS:
            lines += [f"and {len(report.problems) - _ROWS} more.", ""]
        remedies = dict.fromkeys(problem.rule for problem in report.problems)
        lines += [f"- **{rule}**: {RULES[rule].remedy}" for rule in remedies] + [""]
    if report.older:
        lines += [f"{report.older} made by code that is known, but not of now: stale on the leaderboard.", ""]
    return "\n".join(lines)


def markdown_rows(rows: Sequence[Touched]) -> list[str]:
    """The table of rows that a change touches; mIoU and differences in percent points."""
    if not rows:
        return []
    lines = [
        "| block | loss | new seeds | seeds | mIoU | difference | to | hardware |",
        "|---|---|---|--:|--:|--:|---|---|",
    ]
    for row in rows[:_ROWS]:
        seeds = ", ".join(map(str, row.seeds[:12])) + (", ..." if len(row.seeds) > 12 else "")
        spread = "" if row.sd is None or math.isnan(row.sd) else f" ± {row.sd:.2f}"
        delta = "-" if math.isnan(row.delta) else f"{row.delta:+.2f}"
        words = [code(row.block), code(row.loss), seeds, str(row.n), number(row.miou) + spread, delta]
        lines.append("| " + " | ".join([*words, code(row.reference), code(", ".join(row.machines))]) + " |")
    lines.append("")
    if len(rows) > _ROWS:
        lines += [f"and {len(rows) - _ROWS} more rows.", ""]
    return lines


def code(text: str) -> str:
    """Foreign text as a span of code: no link, no mention, no HTML, no end of a table's cell."""
    shown = re.sub(r"[`|<>\\]", "?", plain(text))[:200].strip()
    return f"`{shown}`" if shown else "-"
