"""Scores against a parameter of a dataset, where blocks differ in nothing else: the imbalance dial of `streets`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossbench.cells import canonical_json
from lossbench.errors import ConfigError
from lossbench.site.figuredata import shorts, style
from lossbench.site.model import Board, Loss, Site
from lossbench.site.names import Slugs
from lossbench.tuning.tracks import TUNED

if TYPE_CHECKING:
    from lossbench.figures.sweep import Series

METRICS = {"miou": "mIoU", "tail_miou": "tail mIoU"}


@dataclass(frozen=True)
class Dial:
    """`parameter` of `dataset` over the values `xs`, each with its board; series of METRICS of every loss."""

    dataset: str
    backbone: str
    parameter: str
    slug: str
    xs: list[float]
    boards: list[Board]
    losses: list[Loss]
    series: dict[str, list[Series]]

    @property
    def page(self) -> str:
        return f"dials/{self.slug}.html"

    @property
    def title(self) -> str:
        return f"{self.dataset}: scores over {self.parameter}"


def dials(site: Site) -> list[Dial]:
    slugs = Slugs()
    found = []
    for parameter, boards in _groups(site):
        made = _dial(site, parameter, boards, slugs)
        if made is not None:
            found.append(made)
    return found


def _groups(site: Site) -> Iterator[tuple[str, list[Board]]]:
    """Blocks of one dataset, backbone and protocol that differ in one numeric parameter alone. None of the tuned track:
    there settings differ from block to block."""
    groups: dict[tuple[str, str], list[Board]] = defaultdict(list)
    for board in site.boards:
        block = board.block
        if block.track == TUNED:
            continue
        for name, value in block.dataset_params.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            rest = {key: other for key, other in block.dataset_params.items() if key != name}
            cell = block.parts[0].condition.cell
            key = canonical_json([block.dataset_name, rest, cell["backbone"], dict(block.protocol)])
            groups[name, key].append(board)
    for (name, _), boards in groups.items():
        if len({board.block.dataset_params[name] for board in boards}) > 1:
            yield name, sorted(boards, key=lambda board: float(board.block.dataset_params[name]))


def _dial(site: Site, parameter: str, boards: list[Board], slugs: Slugs) -> Dial | None:
    from lossbench.figures.sweep import metric_over_parameter

    blocks = [board.block for board in boards]
    try:
        series = metric_over_parameter(blocks, parameter, list(METRICS), site.reference)
    except ConfigError:  # they differ in more than groups can tell, e.g. in their data
        return None
    losses = [loss for loss in site.losses if any(board.row_of(loss) is not None for board in boards)]
    by_metric = {metric: [each for each in series if each.metric == metric] for metric in METRICS}
    ordered = {metric: _in_order(given, boards, losses, site.reference) for metric, given in by_metric.items()}
    first = blocks[0]
    name = f"{first.dataset_name} {parameter} {first.backbone} {first.variant}"
    xs = [float(block.dataset_params[parameter]) for block in blocks]
    return Dial(first.dataset_name, first.backbone, parameter, slugs.of(name), xs, boards, losses, ordered)


def _in_order(given: list[Series], boards: list[Board], losses: list[Loss], reference: str) -> list[Series]:
    """Series in the order of `losses`. `metric_over_parameter` has them in the order in which rows first occur."""
    from lossbench.figures.choice import in_order

    keys: dict[str, None] = {}
    for board in boards:
        for row in in_order(board.block, reference):
            keys.setdefault(canonical_json(row.loss))
    by_key = dict(zip(keys, given, strict=True))
    return [by_key[loss.key] for loss in losses]


def figure(dial: Dial, reference: str) -> dict[str, Any]:
    """The data of the figure; `shown` at first: the reference and the best at the strongest imbalance."""
    last = {loss.key: dial.boards[-1].row_of(loss) for loss in dial.losses}
    known = [(i, row) for i, loss in enumerate(dial.losses) if (row := last[loss.key]) is not None]
    ranked = [i for i, row in sorted(known, key=lambda item: -item[1].value("miou")) if not row.is_reference]
    marked = [i for i, row in known if row.is_reference]
    return {
        "losses": [style(loss) for loss in dial.losses],
        "shown": sorted([*marked, *ranked[:4]]),
        "parameter": dial.parameter,
        "dial": {
            METRICS[metric]: [
                {"x": shorts(each.x), "y": shorts(each.mean), "half": shorts(each.half_width, 3)} for each in series
            ]
            for metric, series in dial.series.items()
        },
    }
