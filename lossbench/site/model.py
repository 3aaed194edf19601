"""What a report knows: blocks, losses, which cells have runs, which are missing. Pure: no record is read."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lossbench.cells import canonical_json
from lossbench.comparison import labels
from lossbench.leaderboard import Stale
from lossbench.runs import Part
from lossbench.runtable import RunTable
from lossbench.site.judge import Judgement, judge
from lossbench.site.names import Look, Slugs
from lossbench.standings import Block, Row
from lossbench.tuning.board import build_tracks
from lossbench.tuning.tracks import TUNED, title

if TYPE_CHECKING:
    from lossbench.cells import Cell


@dataclass(frozen=True)
class Loss:
    """A loss with its parameters, as all pages name and draw it: as is and tuned alike. `name` is the plugin's, `slug`
    that of its page."""

    key: str
    label: str
    name: str
    slug: str
    place: int

    @property
    def look(self) -> Look:
        return Look.of(self.place)

    @property
    def page(self) -> str:
        return f"losses/{self.slug}.html"


@dataclass(frozen=True)
class Board:
    """A block and what a page says of it: one judgement and one loss for each row."""

    block: Block
    slug: str
    losses: list[Loss]
    judged: list[Judgement]

    @property
    def page(self) -> str:
        return f"blocks/{self.slug}.html"

    @property
    def seeds(self) -> list[int]:
        return sorted({seed for row in self.block.rows for seed in row.seeds})

    @property
    def runs(self) -> int:
        return sum(row.n for row in self.block.rows)

    @property
    def tested(self) -> int:
        """Rows that Holm's correction is for."""
        return sum(math.isfinite(found.p) for found in self.judged)

    def row_of(self, loss: Loss) -> Row | None:
        return next((row for row, own in zip(self.block.rows, self.losses, strict=True) if own.key == loss.key), None)

    def judgement_of(self, loss: Loss) -> Judgement | None:
        pairs = zip(self.judged, self.losses, strict=True)
        return next((found for found, own in pairs if own.key == loss.key), None)

    def count(self, verdict: str) -> int:
        return sum(found.verdict == verdict for found in self.judged)


@dataclass(frozen=True)
class Gap:
    """Cells of one loss on one block that are not there, by seed; `of` seeds there should be."""

    place: str
    loss: str
    seeds: list[int]
    of: int
    page: str = ""


@dataclass
class Site:
    """Everything that the pages are made from.

    Attributes:
        losses: in the order of all figures: the reference first, then by name and parameters.
        gaps: seeds that other losses of a block have.
        suite: name of the suite that `suite_gaps` refer to; empty when none was given. `suite_ahead`: what its searches
            bring once their trials are there, in words.
    """

    table: RunTable
    boards: list[Board]
    losses: list[Loss]
    reference: str
    margin: float | None = None
    warnings: list[str] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    suite: str = ""
    suite_gaps: list[Gap] = field(default_factory=list)
    suite_ahead: str = ""

    @property
    def runs(self) -> int:
        return sum(board.runs for board in self.boards)

    @property
    def loss_names(self) -> list[str]:
        return list(dict.fromkeys(loss.name for loss in self.losses))

    def of_name(self, name: str) -> list[Loss]:
        return [loss for loss in self.losses if loss.name == name]


def collect(
    table: RunTable,
    *,
    dataset: str = "*",
    backbone: str = "*",
    reference: str = "ce",
    margin: float | None = None,
    stale: Stale | None = None,
    include_stale: bool = True,
    warnings: Sequence[str] = (),
) -> Site:
    """The model of a report.

    Args:
        dataset, backbone, reference, stale, include_stale: as `leaderboard.build`.
        margin: of the equivalence tests, in points.
    """
    blocks = build_tracks(
        table, dataset=dataset, backbone=backbone, reference=reference, stale=stale, include_stale=include_stale
    )
    keys = [_keys(block) for block in blocks]
    losses = _losses(blocks, keys, reference)
    slugs = Slugs()
    boards = [
        Board(block, slugs.of(block.title), [losses[key] for key in own], judge(block, margin))
        for block, own in zip(blocks, keys, strict=True)
    ]
    site = Site(table, boards, list(losses.values()), reference, margin, list(warnings))
    site.gaps = [gap for board in boards for gap in _gaps(board)]
    return site


def _keys(block: Block) -> list[str]:
    """The loss of each row. A tuned row is one of its loss as is, unless two rows would then be the same."""
    keys = [canonical_json(_as_is(row)) for row in block.rows]
    return [
        key if keys.count(key) == 1 else canonical_json(row.loss) for key, row in zip(keys, block.rows, strict=True)
    ]


def _as_is(row: Row) -> Mapping[str, Any]:
    """The loss before it was tuned; see `tuning.board` for what a tuned row's parameters hold."""
    if row.tuning is None:
        return row.loss
    own, searched = row.tuning.own, row.loss["params"]["tuned"]["loss"]
    params = {
        name: own[name] if name in searched else value
        for name, value in row.loss["params"].items()
        if name != "tuned" and (name in searched or name not in own)
    }
    return {**row.loss, "params": params}


def _losses(blocks: Sequence[Block], keys: Sequence[Sequence[str]], reference: str) -> dict[str, Loss]:
    groups: dict[str, list[Part]] = {}
    names: dict[str, str] = {}
    # The tuned ones last: a loss is named as it is, where it was run so.
    for block, own in sorted(zip(blocks, keys, strict=True), key=lambda pair: pair[0].track == TUNED):
        for row, key in zip(block.rows, own, strict=True):
            if block.track != TUNED or key not in names:
                groups.setdefault(key, []).extend(row.runs.parts)
            names.setdefault(key, str(row.loss["name"]))
    found = labels(groups, "loss")
    slugs = Slugs()

    def order(key: str) -> tuple[bool, bool, str, str]:
        return found[key] != reference, names[key] != reference, names[key], found[key]

    return {
        key: Loss(key, found[key], names[key], slugs.of(names[key]), place)
        for place, key in enumerate(sorted(groups, key=order))
    }


def _gaps(board: Board) -> list[Gap]:
    seeds = board.seeds
    return [
        Gap(board.block.title, row.label, missing, len(seeds), board.page)
        for row in board.block.rows
        for missing in [sorted(set(seeds) - set(row.seeds))]
        if missing
    ]


def suite_gaps(cells: Sequence[Cell], table: RunTable) -> list[Gap]:
    """Cells of a suite without a record, by dataset, backbone and loss, in the suite's order."""
    known = set(table.ids.tolist())
    groups: dict[tuple[str, str], list[tuple[int, bool]]] = defaultdict(list)
    for cell in cells:
        place = f"{cell.dataset.label} / {cell.backbone.label}{title(cell)}"
        groups[place, cell.loss.label].append((cell.seed, int(cell.id, 16) in known))
    return [
        Gap(place, loss, missing, len(members))
        for (place, loss), members in groups.items()
        for missing in [sorted(seed for seed, there in members if not there)]
        if missing
    ]
