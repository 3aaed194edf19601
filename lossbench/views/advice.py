"""Advice as text and JSON, and as a suite to settle it: `lossbench advise`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lossbench.advice import FIRST, MATTERS, MIXED, OPEN, PARTLY, WORSE, Advice, Candidate
from lossbench.statistics import Paired
from lossbench.views.data import json_text
from lossbench.views.grid import Entry, Grid, Header, number

if TYPE_CHECKING:
    from rich.console import Console

_HEADINGS = {
    FIRST: "Worth trying first: better than {} in a comparable block, below it in none",
    PARTLY: "Better than {} in a comparable block, below it in another by what may be noise",
    MIXED: "Better than {} in a comparable block and worse in another: it depends on the data",
    OPEN: "Not separated from {}: these records do not say",
    WORSE: "Worse than {} in a comparable block, better in none",
}


def render(advice: Advice, name: str, console: Console) -> None:
    from lossbench.views import terminal

    shape = advice.shape
    terminal.print_title(
        f"{name}: {shape.classes} classes, imbalance {shape.ratio:,.0f}:1, {shape.effective:.1f} effective classes, "
        f"rarest third {100 * shape.tail:.2g} % of the pixels",
        console,
    )
    terminal.draw(near_grid(advice), console)
    for group, heading in _HEADINGS.items():
        members = advice.of(group)
        if members:
            console.print()
            terminal.emit(_bold(terminal.safe(heading.format(advice.reference), console)), console)
            terminal.draw(grid(members), console)
    terminal.print_notes(notes(advice), console)


def _bold(text: str) -> Any:
    from rich.text import Text

    return Text(text, style="bold")


def near_grid(advice: Advice) -> Grid:
    headers = [Header("comparable", numeric=False), Header("distance"), Header("imbalance"), Header("tail", "% px")]
    rows = [
        [Entry(title), Entry(f"{distance:.2f}"), Entry(f"{own.ratio:,.0f}:1"), Entry(f"{100 * own.tail:.2g}")]
        for title, distance, own in advice.near
    ]
    return Grid(headers, rows)


def grid(members: list[Candidate]) -> Grid:
    """A row per loss: mean over the blocks of its differences, the least and the most favourable block (where any has
    several), verdicts."""
    headers = [
        Header("loss", numeric=False), Header("Δ mIoU", "points"), Header("over blocks", ""),
        Header("Δ tail", "points"), Header("better/open/worse", "blocks"), Header("×", "time"),
    ]  # fmt: skip
    rows = []
    for each in members:
        known = [e.miou.mean for e in each.evidence if e.miou is not None]
        span = f"{min(known):+.2f}..{max(known):+.2f}" if len(known) > 1 else ""
        counts = [sum(e.verdict == verdict for e in each.evidence) for verdict in ("better", "open", "worse")]
        times = [e.time_ratio for e in each.evidence if e.time_ratio is not None]
        rows.append([
            Entry(each.label), Entry(_signed(each.gain)), Entry(span), Entry(_signed(each.tail_gain)),
            Entry("/".join(map(str, counts))), Entry(number(sum(times) / len(times) if times else None)),
        ])  # fmt: skip
    if not any(row[2].text for row in rows):
        headers, rows = [headers[0], headers[1], *headers[3:]], [[*row[:2], *row[3:]] for row in rows]
    return Grid(headers, rows)


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.2f}"


def notes(advice: Advice) -> list[str]:
    lines = []
    if not advice.of(FIRST):
        lines.append(f"The evidence separates no loss from {advice.reference} in its favour.")
    lines += advice.cautions
    lines.append(
        "Verdicts: paired t-test over seeds at 0.05 after Holm's correction within a block. Distance: factors of 10 in "
        "imbalance and in the tail's share, and of 2 in the effective number of classes, added up: a rough guide."
    )
    if advice.seeds is not None:
        lines.append(
            f"To find a difference of {MATTERS:g} point on data like these takes about {advice.seeds} paired seeds "
            "(power 80 %, median spread there). --write-suite FILE writes the suite that would settle it."
        )
    return lines


def render_json(advice: Advice, name: str) -> str:
    """One object; undefined values are null."""
    return json_text({
        "dataset": name,
        "shape": asdict(advice.shape),
        "reference": advice.reference,
        "near": [{"block": title, "distance": distance, **asdict(own)} for title, distance, own in advice.near],
        "losses": [
            {
                "loss": each.label,
                "name": each.loss["name"],
                "params": each.loss["params"],
                "group": each.group,
                "gain": each.gain,
                "tail_gain": each.tail_gain,
                "evidence": [
                    asdict(e) | {"miou": _paired(e.miou), "tail": _paired(e.tail)} for e in each.evidence
                ],
            }
            for each in advice.candidates
        ],
        "seeds_to_find_a_point": advice.seeds,
        "cautions": advice.cautions,
    })  # fmt: skip


def _paired(paired: Paired | None) -> dict[str, Any] | None:
    if paired is None:
        return None
    return {"mean": paired.mean, "sd": paired.sd, "n": paired.n, "interval": paired.interval}


def suite(advice: Advice, dataset: Mapping[str, Any], name: str) -> str:
    """A suite file that runs the reference and the shortlist on the dataset: the promising ones, else the three open
    ones of the largest mean."""
    import yaml

    shortlist = [*advice.of(FIRST), *advice.of(PARTLY), *advice.of(MIXED)] or advice.of(OPEN)[:3]
    ours = advice.reference_loss
    plain = advice.reference == ours["name"]  # a label says what was set
    losses = [ours["name"] if plain else {"name": ours["name"], **ours["params"]}]
    losses += [{"name": each.loss["name"], **each.loss["params"]} for each in shortlist]
    entry = {key: value for key, value in dataset.items() if value is not None}
    content = {
        "name": "settle",
        "description": f"Which of these helps on {name}? From `lossbench advise`.",
        "datasets": [entry if len(entry) > 1 else entry["name"]],
        "backbones": [{"name": "fcn_timm", "weights": "none"}],
        "losses": losses,
        "seeds": max(advice.seeds or 0, 6),
        "protocol": {
            "iterations": 2000, "batch_size": 8, "crop": [256, 256], "optimizer": "adamw", "lr": 2e-3, "min_lr": 1e-5,
        },
    }  # fmt: skip
    head = (
        "# Written by `lossbench advise`. Backbone, schedule, crop and learning rate are a start: set them as you\n"
        "# would for cross-entropy alone, then run it: lossbench run THIS_FILE.\n"
        "# `tune:` gives every loss the same search.\n"
    )
    return head + yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=110)
