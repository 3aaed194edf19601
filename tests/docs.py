"""Blocks in docs/*.md that are what a command prints. `python -m tests.docs --write` brings them up to date.

    <!-- run: lossbench leaderboard --dataset camvid --format markdown -->
    ...
    <!-- end -->

Output of `--format markdown` stands there as it is, any other inside a ```text fence; of a figure, its picture and
caption (see docfigures.py). Commands run in the root of the repository, on the records of its `results/`, 80 columns
wide.

What a page says follows from the records alone. So nothing is stale here: whether the code has changed since a record
was made is a fact about the checkout (`lossbench leaderboard` marks it for whoever asks there); were it on the page,
every change of a loss's file would break a page whose numbers are as they were. For the same reason only verbs that
read may stand there, and none that speaks of this machine's folders or clock.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from tests.docfigures import FigureError, block_text

ROOT = Path(__file__).parents[1]
#: Verbs that only read, and say the same everywhere (`show` names files of this machine).
VERBS = ("leaderboard", "ranks", "advise", "diagnostics", "audit", "list", "figure")
_START = re.compile(r"<!-- run: (.+?) -->")
_END = "<!-- end -->"
#: What would change a command's output from outside.
_FOREIGN = ("FORCE_COLOR", "NO_COLOR", "LOSSBENCH_RESULTS", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


class BlockError(Exception):
    """A block that cannot be read or run, in one line with file and line number."""


@dataclass(frozen=True)
class Block:
    """A block of a page: the command, the text below it, and its lines [start, end) without the two markers."""

    file: Path
    command: str
    start: int
    end: int
    text: str

    def __str__(self) -> str:
        return f"{self.file.name}:{self.start}"


def pages(root: Path = ROOT) -> list[Path]:
    return sorted((root / "docs").rglob("*.md"))


def blocks(file: Path) -> list[Block]:
    """The blocks of a page, in order. Raises BlockError for a marker without its partner."""
    found = []
    command, start = "", 0
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        marker = _START.fullmatch(line.strip())
        if marker and command:
            raise BlockError(f"{file.name}:{number}: the block of line {start} has no '{_END}'")
        if marker:
            command, start = marker[1], number
        elif line.strip() == _END:
            if not command:
                raise BlockError(f"{file.name}:{number}: '{_END}' without a '<!-- run: ... -->'")
            found.append(Block(file, command, start, number - 1, "".join(lines[start : number - 1])))
            command = ""
        elif "<!-- run" in line:
            raise BlockError(f"{file.name}:{number}: not '<!-- run: lossbench ... -->' on a line of its own")
    if command:
        raise BlockError(f"{file.name}:{start}: the block has no '{_END}'")
    return found


def expected(block: Block, root: Path = ROOT, *, draw: bool = False) -> str:
    """What should stand in the block; figures are drawn anew with `draw`. Raises BlockError when the command fails."""
    words = shlex.split(block.command)
    if len(words) < 2 or words[0] != "lossbench" or words[1] not in VERBS:
        raise BlockError(f"{block}: not `lossbench` and one of {', '.join(VERBS)}: {block.command}")
    if words[1] == "figure":
        try:
            return block_text(words[1:], root, run, draw=draw)
        except FigureError as error:
            raise BlockError(f"{block}: {error}") from None
    output, errors, code = run(words[1:], root)
    # 1: `audit` found what cannot be. Anything else that fails, and any warning, is no text for a page.
    if code not in (0, 1) or errors:
        raise BlockError(f"{block}: `{block.command}` exits with {code}: {errors.strip()}")
    if "--format markdown" in block.command.replace("=", " ") or "-f markdown" in block.command:
        return f"\n{output.strip()}\n\n"
    return f"```text\n{output.rstrip()}\n```\n"


def run(words: Sequence[str], root: Path) -> tuple[str, str, int]:
    """What a command prints on both streams, and its exit code; run in this process, in the folder `root`."""
    from lossbench.cli.main import run as command_line

    plain = {name: value for name, value in os.environ.items() if name not in _FOREIGN} | {"COLUMNS": "80"}
    output, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(root),
        mock.patch.dict(os.environ, plain, clear=True),
        mock.patch("lossbench.provenance.stale_reasons", return_value=()),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        code = command_line(words)
    return output.getvalue(), errors.getvalue(), code


def updated(file: Path, root: Path = ROOT, *, draw: bool = False) -> str:
    """The page with every block as its command prints it; figures drawn anew with `draw`."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    for block in reversed(blocks(file)):  # from the end: the line numbers before it stay
        lines[block.start : block.end] = [expected(block, root, draw=draw)]
    return "".join(lines)


def _all_updated(root: Path, *, draw: bool) -> Iterator[tuple[Path, bool, str]]:
    for page in pages(root):
        text = updated(page, root, draw=draw)
        yield page, text != page.read_text(encoding="utf-8"), text


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Check or rewrite all pages; returns 1 when a page is, or was, not what its commands print."""
    parser = argparse.ArgumentParser(prog="python -m tests.docs", description="Blocks in docs/*.md made by commands.")
    parser.add_argument("--write", action="store_true", help="rewrite the blocks")
    parser.add_argument("--figures", action="store_true", help="draw the figures anew, too (panels need predictions)")
    given = parser.parse_args(arguments)
    write = given.write
    differ = False
    try:
        for page, changed, text in _all_updated(root, draw=given.figures):
            if changed and write:
                page.write_text(text, encoding="utf-8")
                print(f"{page}: rewritten")
            elif changed:
                print(f"{page}: differs from what its commands print")
                differ = True
    except BlockError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return int(differ)


if __name__ == "__main__":
    sys.exit(main())
