"""The curves of equal tuning: tables for 80 columns, CSV and JSON. Scores in percent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from lossbench.tuning.choice import Curve, best_so_far, expected_best
from lossbench.tuning.curves import Group, by_first
from lossbench.tuning.space import Scalar, shown, text
from lossbench.views.data import csv_text, json_text
from lossbench.views.grid import Entry, Grid, Header, number
from lossbench.views.terminal import draw, print_notes, print_title

#: Levels of a curve drawn in characters, lowest first: on a terminal, and piped.
_BLOCKS, _ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-=+*%@"
_COLUMNS_AT_80 = 6


def render(groups: Sequence[Group], console: Console) -> None:
    """For each dataset and backbone: what each search came to, every trial, and what fewer trials would have found."""
    for place, group in enumerate(groups):
        if place:
            console.print()
        print_title(group.title, console)
        draw(summary_grid(group, _BLOCKS if console.is_terminal else _ASCII_BLOCKS), console)
        for grid in (*trial_grids(group), *own_grids(group), expected_grid(group)):
            console.print()
            draw(grid, console)
        print_notes(notes(group), console)


def summary_grid(group: Group, levels: str) -> Grid:
    """A row for each loss: hold-out mIoU as is and of the choice, what was chosen, and the curve in characters."""
    scores = [score for curve in group.curves for score in curve.scores]
    best = [curve.chosen.score for curve in group.curves if curve.chosen and curve.chosen.score is not None]
    rows = []
    for curve in group.curves:
        chosen, own = curve.chosen, curve.trials[0].score
        top = None if chosen is None or chosen.score is None else 100 * chosen.score
        done = sum(trial.score is not None for trial in curve.trials)
        words = shown(chosen.setting) if chosen else f"({done} of {curve.budget} trials)"
        rows.append([
            Entry(curve.loss),
            Entry(number(None if own is None else 100 * own)),
            Entry(number(top), best=len(best) > 1 and top is not None and top == 100 * max(best)),
            Entry(words),
            Entry(sparkline(group, curve, scores, levels)),
        ])  # fmt: skip
    headers = [
        Header("loss", "", numeric=False),
        Header("as is", "%"),
        Header("best", "%"),
        Header("chosen", "", numeric=False),
        Header(f"by {group.first}", "", numeric=False),
    ]
    return Grid(headers, rows)


def sparkline(group: Group, curve: Curve, scores: Sequence[float], levels: str) -> str:
    """The trials by the first dimension, one character each, on the scale of all `scores`; `?` for one to come."""
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    drawn = []
    for trial in by_first(group, curve):
        if trial.score is None:
            drawn.append("?")
            continue
        share = (100 * trial.score - low) / (high - low) if high > low else 1.0
        drawn.append(levels[min(int(share * len(levels)), len(levels) - 1)])
    return "".join(drawn)


def trial_grids(group: Group) -> list[Grid]:
    """Every trial: a row for each value of the first dimension, a column for each loss, as many as 80 columns hold."""
    grids = []
    for start in range(0, len(group.curves), _COLUMNS_AT_80):
        curves = group.curves[start : start + _COLUMNS_AT_80]
        cells: dict[tuple[int, Scalar, int], dict[int, Entry]] = {}
        for column, curve in enumerate(curves):
            seen: dict[Scalar, int] = {}
            for place, trial in enumerate(by_first(group, curve)):
                value = trial.setting[group.first]
                rank = 0 if isinstance(value, int | float) else place
                nth = seen[value] = seen.get(value, -1) + 1
                score = "?" if trial.score is None else number(100 * trial.score) + "!" * trial.diverged
                entry = Entry(score, best=curve.chosen is not None and trial.number == curve.chosen.number)
                cells.setdefault((rank, value, nth), {})[column] = entry
        rows = [
            [Entry(text(value)), *(line.get(column, Entry("")) for column in range(len(curves)))]
            for (_, value, _), line in sorted(cells.items(), key=lambda item: item[0][:1] + item[0][1:])
        ]
        headers = [Header(group.first, "", numeric=False)]
        headers += [Header(curve.loss.partition("(")[0], "%") for curve in curves]
        grids.append(Grid(headers, rows))
    return grids


def own_grids(group: Group) -> list[Grid]:
    """The trials of each loss that searches parameters of its own, in the order of the first dimension."""
    grids = []
    for curve in group.curves:
        names = [dimension.name for dimension in curve.space]
        if len(names) < 2:
            continue
        rows = [
            [
                Entry(f"{curve.loss}, trial {trial.number + 1}"),
                *(Entry(text(trial.setting[name])) for name in names),
                Entry(
                    "?" if trial.score is None else number(100 * trial.score) + "!" * trial.diverged,
                    best=curve.chosen is not None and trial.number == curve.chosen.number,
                ),
            ]
            for trial in by_first(group, curve)
        ]
        headers = [Header("", "", numeric=False), *(Header(name) for name in names), Header("mIoU", "%")]
        grids.append(Grid(headers, rows))
    return grids


def milestones(budget: int) -> list[int]:
    """1, 2, 4, ... and the whole budget."""
    found = []
    power = 1
    while power < budget:
        found.append(power)
        power *= 2
    return [*found, budget]


def expected_grid(group: Group) -> Grid:
    """Expected best hold-out mIoU by number of trials; of searches that are complete."""
    numbers = milestones(max(curve.budget for curve in group.curves))
    rows = []
    for curve in group.curves:
        values = expected_best(curve.scores).tolist() if curve.complete else []
        rows.append(
            [
                Entry(curve.loss),
                *(Entry(number(float(values[n - 1])) if n <= len(values) else "-") for n in numbers),
            ]
        )
    headers = [Header("best of n trials", "", numeric=False), *(Header(f"n={n}", "%") for n in numbers)]
    return Grid(headers, rows)


def notes(group: Group) -> list[str]:
    lines = [f"Hold-out mIoU. {group.budget[:1].upper()}{group.budget[1:]}."]
    lines.append("As is: the first trial, with the loss's own setting. Marked in a column of trials: the choice.")
    if any(trial.diverged for curve in group.curves for trial in curve.trials):
        lines.append("!: diverged; it counts as what it scored.")
    lines.append(
        "Best of n trials: what n random ones of these are expected to find, sum of v (P(V<=v)^n - P(V<v)^n) (Dodge et "
        "al. 2019)."
    )
    edges = [f"{curve.loss} {edge}" for curve in group.curves for edge in curve.edges]
    if edges:
        lines.append(f"Warning: chosen at the edge of the space, so better may lie outside: {', '.join(edges)}.")
    lines.append("These scores chose the settings, so they flatter them: `lossbench leaderboard --track tuned` ranks.")
    return lines


# --- machines ---


def to_json(groups: Sequence[Group]) -> list[dict[str, Any]]:
    return [
        {
            "dataset": group.dataset,
            "backbone": group.backbone,
            "budget": group.budget,
            "losses": [_curve_json(curve) for curve in group.curves],
        }
        for group in groups
    ]


def _curve_json(curve: Curve) -> dict[str, Any]:
    return {
        "loss": curve.loss,
        "space": {dimension.name: dimension.to_json() for dimension in curve.space},
        "trials_wanted": curve.budget,
        "chosen": None if curve.chosen is None else curve.chosen.number + 1,
        "edges": curve.edges,
        "trials": [
            {
                "trial": trial.number + 1,
                "setting": dict(trial.setting),
                "holdout_miou": None if trial.score is None else 100 * trial.score,
                "diverged": trial.diverged,
                "ids": list(trial.ids),
            }
            for trial in curve.trials
        ],
        "best_so_far": best_so_far(curve.scores) if curve.complete else None,
        "expected_best": expected_best(curve.scores).tolist() if curve.complete else None,
    }


def render_json(groups: Sequence[Group], warnings: Sequence[str] = ()) -> str:
    return json_text({"unit": "percent", "searches": to_json(groups), "warnings": list(warnings)})


def render_csv(groups: Sequence[Group]) -> str:
    """A line for each trial; a column for each searched name."""
    lines: list[dict[str, Any]] = []
    for group in groups:
        for curve in group.curves:
            best = best_so_far(curve.scores) if curve.complete else []
            expected = expected_best(curve.scores).tolist() if curve.complete else []
            lines += [
                {
                    "dataset": group.dataset,
                    "backbone": group.backbone,
                    "loss": curve.loss,
                    "trial": trial.number + 1,
                    "holdout_miou": None if trial.score is None else 100 * trial.score,
                    "best_so_far": best[trial.number] if best else None,
                    "expected_best": expected[trial.number] if expected else None,
                    "chosen": int(curve.chosen is not None and curve.chosen.number == trial.number),
                    "diverged": int(trial.diverged),
                    "ids": " ".join(trial.ids),
                    **{f"tuned.{name}": value for name, value in trial.setting.items()},
                }
                for trial in curve.trials
            ]
    return csv_text(lines)
