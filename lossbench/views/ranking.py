"""Ranks over blocks as tables: `lossbench ranks`."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lossbench.aggregates import Range
from lossbench.ranking import Ranking
from lossbench.ranktests import FEWEST_BLOCKS
from lossbench.significance import seeds_needed
from lossbench.views.data import csv_text, json_text
from lossbench.views.grid import Entry, Grid, Header
from lossbench.views.significance import p_text

if TYPE_CHECKING:
    from rich.console import Console


def title(ranking: Ranking) -> str:
    return f"Over {len(ranking.blocks)} block{'s' * (len(ranking.blocks) != 1)}"


def grid(ranking: Ranking) -> Grid:
    """One row per loss, best mean rank first."""
    headers = [
        Header("loss", numeric=False), Header("mean rank"), Header("best", "blocks"), Header("IQM", "% of ref"),
        Header("95 %"), Header(f"P(> {ranking.reference.partition('(')[0]})"), Header("95 %"),
    ]  # fmt: skip
    first = (ranking.ranks == ranking.ranks.min(axis=1, keepdims=True)).sum(axis=0)
    ranks = ranking.mean_ranks
    rows = [
        [
            Entry(loss),
            Entry(f"{ranks[place]:.2f}", best=bool(ranks[place] == ranks.min())),
            Entry(str(int(first[place]))),
            Entry("-" if math.isnan(ranking.iqm[place].value) else f"{ranking.iqm[place].value:.1f}"),
            Entry(_range(ranking.iqm[place], 1)),
            Entry("ref" if chance is None else f"{chance.value:.2f}"),
            Entry("" if chance is None else _range(chance, 2)),
        ]
        for place, (loss, chance) in enumerate(zip(ranking.losses, ranking.improvement, strict=True))
    ]
    return Grid(headers, rows)


def _range(found: Range, digits: int) -> str:
    if found.low is None or found.high is None:
        return "-"
    return f"{found.low:.{digits}f}..{found.high:.{digits}f}"


def notes(ranking: Ranking) -> list[str]:
    """What was ranked, what the numbers mean, and what they cannot say."""
    number = len(ranking.blocks)
    lines = [
        f"Blocks: {'; '.join(ranking.blocks)}.",
        "Rank 1 is the best mean mIoU of a block, over the seeds that all its losses share. best: blocks where it is "
        "first. IQM: mean of the middle half of all runs' mIoU, in percent of the reference's mean in their block, "
        "blocks of equal weight. P: chance that one of its runs beats one of the reference.",
        _intervals(ranking),
    ]
    if ranking.friedman is not None:
        drawn = ranking.friedman.drawn
        how = "all permutations" if drawn is None else f"{drawn:,} permutations"
        lines.append(
            f"That all losses rank alike: p {p_text(ranking.friedman.p)} (Friedman test, {how} of the ranks within "
            "blocks)."
        )
    if ranking.critical is not None:
        groups = "; ".join(f"{ranking.losses[a]} to {ranking.losses[b]}" for a, b in ranking.cliques)
        lines.append(
            f"Mean ranks less than {ranking.critical:.2f} apart are not told apart (Nemenyi, 0.05)"
            + (f": {groups}." if groups else ": none is.")
        )
    else:
        lines.append(
            f"{number} block{'s' * (number > 1)}: no critical difference is given, nor drawn, below {FEWEST_BLOCKS}: "
            "it would exceed most differences of ranks there can be."
        )
    lines.append("Blocks that share a dataset or a backbone are no independent evidence.")
    return [*lines, *ranking.notes]


def _intervals(ranking: Ranking) -> str:
    fewest = min(map(len, ranking.relative))
    if fewest < 2:
        return "No intervals: a block has a single seed."
    few = f" With fewer than {seeds_needed()} seeds in a block they are too narrow." if fewest < seeds_needed() else ""
    return f"Intervals: bootstrap of the seeds within blocks.{few}"


def render(ranking: Ranking, console: Console) -> None:
    from lossbench.views import terminal

    terminal.print_title(title(ranking), console)
    terminal.draw(grid(ranking), console)
    terminal.print_notes(notes(ranking), console)


def render_markdown(ranking: Ranking) -> str:
    from lossbench.views import markdown

    listed = "\n".join(f"- {markdown.escape(note)}" for note in notes(ranking))
    return f"### {title(ranking)}\n\n{markdown.table(grid(ranking))}\n\n{listed}\n"


def render_latex(ranking: Ranking) -> str:
    from lossbench.views import latex

    comments = "".join(f"% {note}\n" for note in notes(ranking))
    return f"% Needs \\usepackage{{booktabs}}.\n{comments}{latex.tabular(grid(ranking))}\n"


def rows(ranking: Ranking) -> list[dict[str, Any]]:
    """One flat dictionary per loss, in full precision."""
    made = []
    for place, loss in enumerate(ranking.losses):
        chance = ranking.improvement[place]
        row: dict[str, Any] = {"loss": loss, "mean_rank": float(ranking.mean_ranks[place])}
        row |= {f"iqm{suffix}": value for suffix, value in _named(ranking.iqm[place]).items()}
        row |= {f"improvement{suffix}": value for suffix, value in _named(chance).items()}
        row |= {f"rank:{title}": float(ranking.ranks[b, place]) for b, title in enumerate(ranking.blocks)}
        made.append(row)
    return made


def _named(found: Range | None) -> dict[str, float | None]:
    if found is None:
        return {"": None, "_low": None, "_high": None}
    return {"": found.value, "_low": found.low, "_high": found.high}


def render_csv(ranking: Ranking) -> str:
    return csv_text(rows(ranking))


def render_json(ranking: Ranking) -> str:
    """One object; undefined values are null."""
    return json_text(
        {
            "blocks": ranking.blocks,
            "reference": ranking.reference,
            "friedman_p": ranking.friedman and ranking.friedman.p,
            "friedman_drawn": ranking.friedman and ranking.friedman.drawn,
            "critical_difference": ranking.critical,
            "losses": [
                {
                    "loss": loss,
                    "mean_rank": float(ranking.mean_ranks[place]),
                    "ranks": ranking.ranks[:, place].tolist(),
                    "iqm": asdict(ranking.iqm[place]),
                    "improvement": None if (chance := ranking.improvement[place]) is None else asdict(chance),
                }
                for place, loss in enumerate(ranking.losses)
            ],
            "cliques": [[ranking.losses[i] for i in range(a, b + 1)] for a, b in ranking.cliques],
            "notes": ranking.notes,
        }
    )
