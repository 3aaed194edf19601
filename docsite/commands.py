"""The reference of the command line, from the declarations that Typer reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from docsite.markup import code, inline, table
from lossbench.cli import typed
from lossbench.cli.main import SUMMARIES, VERBS, _load

#: What a reader wants to do, and the verbs for it, in this order.
GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Run", ("run", "plan", "status", "cancel", "predict", "clean")),
    ("Read results", ("leaderboard", "compare", "ranks", "tuning", "diagnostics", "advise")),
    ("Publish", ("report", "figure")),
    ("Records of others", ("merge", "verify", "submit", "audit")),
    ("Plugins and data", ("list", "show", "new", "check", "data", "schema")),
)


def commands() -> dict[str, Any]:
    """Every verb as a command of Typer."""
    group = typer.main.get_command(typed._app([(name, _load(target)) for name, target in VERBS]))
    found: dict[str, Any] = group.commands  # type: ignore[attr-defined]
    return found


def page() -> str:
    """The page, in Markdown."""
    known = commands()
    grouped = [name for _, names in GROUPS for name in names]
    groups = [*GROUPS, ("Others", tuple(name for name in known if name not in grouped))]
    parts = [_HEAD]
    rows = [(f'<a href="#{name}">{code(name)}</a>', inline(SUMMARIES[name])) for _, names in groups for name in names]
    parts += [table(("Verb", "What it does"), rows, "verbs"), _EXIT_CODES]
    for title, names in groups:
        if names:
            parts.append(f"## {title} {{ #{title.lower().replace(' ', '-')} }}\n")
            parts += [_verb(name, known[name]) for name in names]
    return "\n".join(parts)


def _verb(name: str, command: Any) -> str:
    text, _, example = (command.help or "").partition("\b\n")
    context = typer.Context(command, info_name=f"lossbench {name}")
    usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
    parts = [f"### {name} {{ #{name} }}\n", _paragraphs(text)]
    parts.append(f"```text\n{usage}\n```\n")
    rows = list(_parameters(command, context))
    if rows:
        parts.append(table(("Argument or option", "Meaning"), rows, "options"))
    lines = [line.strip() for line in example.splitlines() if line.strip() and not line.strip().startswith("Example")]
    if lines:
        parts.append("Example:\n\n```bash\n" + "\n".join(lines) + "\n```\n")
    return "\n".join(parts)


def _paragraphs(text: str) -> str:
    """Help as Markdown. What looks like HTML or Markdown is neither; `code` stays."""
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip())]
    return "\n\n".join(f"<p>{inline(part)}</p>" for part in paragraphs) + "\n"


def _parameters(command: Any, context: Any) -> Iterator[tuple[str, str]]:
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is None:
            continue
        names, text = record
        if parameter.param_type_name == "argument":
            names = names.split()[0]
        # "[default: 60.0; x>=0]" at the end: facts of their own
        found = re.search(r"\s*\[((?:default|required|x[<>]|\d+<).*)\]$", text)
        facts = f"<br><small>{inline(found[1])}</small>" if found else ""
        names = ", ".join(code(part) for part in names.split(", "))
        yield names, inline(text[: found.start()] if found else text) + facts


_HEAD = """\
---
title: Command line
---

# Command line: every verb

`lossbench VERB --help` prints what stands here; this page is made from the same declarations, when the site is built.
Data goes to stdout, progress and warnings to stderr. Verbs that read take `--json`. `--debug`, before or after the
verb, shows the traceback of an error. Records lie in `results/`, or where `--results` or the variable
`LOSSBENCH_RESULTS` says.

"""

_EXIT_CODES = "\n## Exit codes { #exit-codes }\n\n" + table(
    ("Code", "Means"),
    (
        ("0", "all is well"),
        (
            "1",
            "some cells failed; some rule fails (<code>check</code>); some scores cannot be (<code>audit</code>); "
            "some records are not in order (<code>merge</code>, <code>verify</code>, <code>submit</code>)",
        ),
        ("2", "wrong usage, or a wrong suite"),
        ("3", "the machine lacks something: a package, data, rights"),
        ("130", "interrupted"),
    ),
    "codes",
)
