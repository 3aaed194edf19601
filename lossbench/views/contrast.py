"""Comparisons of two losses as text, Markdown, CSV and JSON: `lossbench compare`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lossbench.contrast import Contrast
from lossbench.statistics import Paired
from lossbench.views import markdown
from lossbench.views.data import csv_text, json_text
from lossbench.views.grid import Entry, Grid, Header, number

if TYPE_CHECKING:
    from rich.console import Console

#: Characters of the picture of an interval.
_PICTURE = 25


def grid(found: Contrast, *, picture: bool = False) -> Grid:
    """mIoU first, then a class a row, commonest in training first; with `picture` each interval drawn."""
    headers = [
        Header("class", numeric=False),
        Header("train", "%"),
        Header("", numeric=False),
        Header("Δ", "points ± CI"),
    ]
    lines: list[tuple[str, str, str, Paired | None]] = [("mIoU", "", "", found.miou)]
    lines += [(gain.name, number(gain.share, 3), gain.group, gain.gain) for gain in found.classes]
    rows = [[Entry(name), Entry(share), Entry(group), difference(paired)] for name, share, group, paired in lines]
    if picture:
        low, high = _range([paired for *_, paired in lines if paired is not None])
        headers.append(Header(f"{low:+.3g} to {high:+.3g}", numeric=False))
        for row, (*_, paired) in zip(rows, lines, strict=True):
            row.append(Entry(_drawn(paired, low, high)))
    return Grid(headers, rows)


def difference(paired: Paired | None) -> Entry:
    if paired is None:
        return Entry("-")
    half = paired.half_width
    sign = "+" if round(paired.mean, 2) >= 0 else "-"
    return Entry(f"{sign}{abs(paired.mean):.2f}", "" if half is None else f"±{half:.{1 + (half < 10)}f}")


def _range(pairs: Sequence[Paired]) -> tuple[float, float]:
    """Of the picture: all means, and the intervals as far as they do not dwarf them."""
    halves = sorted(paired.half_width or 0.0 for paired in pairs)
    most = 1.5 * max(halves[len(halves) // 2], *(abs(paired.mean) for paired in pairs)) or 1.0
    ends = [end for paired in pairs for end in (paired.interval or (paired.mean, paired.mean))]
    return max(min(0.0, *ends), -most), min(max(0.0, *ends), most)


def _drawn(paired: Paired | None, low: float, high: float) -> str:
    """`--o--|` : an interval, its mean, and 0; < and > where it goes on beyond."""
    if paired is None or high == low:
        return ""

    def place(value: float) -> int:
        return round((min(max(value, low), high) - low) / (high - low) * (_PICTURE - 1))

    cells = [" "] * _PICTURE
    cells[place(0.0)] = "|"
    start, end = paired.interval or (paired.mean, paired.mean)
    for at in range(place(start), place(end) + 1):
        cells[at] = "+" if at == place(0.0) else "-"
    if start < low:
        cells[0] = "<"
    if end > high:
        cells[-1] = ">"
    cells[place(paired.mean)] = "o"
    return "".join(cells).rstrip()


def notes(found: Contrast) -> list[str]:
    seeds = ", ".join(map(str, found.miou.seeds))
    lines = [
        f"IoU of {found.ours} minus that of {found.theirs}, in points, paired over seeds ({seeds}): mean ± half of the "
        "95 % t interval. A class's interval is its own: of 20 classes one excludes 0 by chance."
    ]
    if found.slope is not None:
        rise = -found.slope.mean
        half = found.slope.half_width
        spread = "" if half is None else f" ±{half:.2f}"
        if half is None or abs(rise) <= half:
            verdict = "so whether it moves the tail is not settled"
        else:
            verdict = "so it favours rare classes" if rise > 0 else "so it favours common classes"
        lines.append(
            f"Slope: for a class ten times as rare the difference changes by {rise:+.2f}{spread} points, {verdict}. "
            "(Least squares over log10 of the training share, a slope per seed.)"
        )
    return lines


def title(found: Contrast) -> str:
    return f"{found.ours} minus {found.theirs}, {found.title}"


def render(contrasts: Sequence[Contrast], missing: Sequence[str], console: Console) -> None:
    from lossbench.views import terminal

    for place, found in enumerate(contrasts):
        if place:
            console.print()
        terminal.print_title(title(found), console)
        terminal.draw(grid(found, picture=True), console)
        terminal.print_notes(notes(found), console)
    if missing:
        terminal.print_notes(missing, console)


def render_markdown(contrasts: Sequence[Contrast], missing: Sequence[str]) -> str:
    parts = []
    for found in contrasts:
        parts += [f"### {markdown.escape(title(found))}", markdown.table(grid(found))]
        parts.append("\n".join(f"- {markdown.escape(note)}" for note in notes(found)))
    parts += [f"- {markdown.escape(line)}" for line in missing]
    return "\n\n".join(parts) + "\n"


def render_csv(contrasts: Sequence[Contrast]) -> str:
    return csv_text([
        {"block": found.title, "loss": found.ours, "minus": found.theirs, **line}
        for found in contrasts
        for line in [
            {"class": "mIoU", "share": None, "group": "", **numbers(found.miou)},
            *({"class": g.name, "share": g.share, "group": g.group, **numbers(g.gain)} for g in found.classes),
            {"class": "slope per factor of 10", "share": None, "group": "", **numbers(found.slope)},
        ]
    ])  # fmt: skip


def numbers(paired: Paired | None) -> dict[str, Any]:
    if paired is None:
        return {"mean": None, "sd": None, "low": None, "high": None, "n": 0}
    low, high = paired.interval or (None, None)
    return {"mean": paired.mean, "sd": paired.sd, "low": low, "high": high, "n": paired.n}


def render_json(contrasts: Sequence[Contrast], missing: Sequence[str]) -> str:
    """One object: `contrasts`, each with `miou`, `classes`, `slope`; `missing`. Undefined is null."""
    made = [
        {
            "block": found.title,
            "loss": found.ours,
            "minus": found.theirs,
            "miou": numbers(found.miou),
            "classes": [
                {"class": gain.name, "share": gain.share, "group": gain.group, **numbers(gain.gain)}
                for gain in found.classes
            ],
            "slope": numbers(found.slope),
        }
        for found in contrasts
    ]
    return json_text({"contrasts": made, "missing": list(missing)})
