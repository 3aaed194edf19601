"""What the tables of a block's page hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossbench.metrics import frequency_groups
from lossbench.site.lossinfo import class_gains
from lossbench.site.model import Board, Loss
from lossbench.standings import Block

#: Shades of each colour of the heat map.
SHADES = 5


@dataclass(frozen=True)
class ClassColumn:
    """A class: its share of the training pixels in percent and its third of the frequencies."""

    name: str
    share: float
    group: str
    first: bool


@dataclass(frozen=True)
class HeatCell:
    """IoU in percent, its difference to the reference in points (None: none), the shade of that from -SHADES to SHADES,
    and whether its interval leaves out 0."""

    iou: float
    difference: float | None
    shade: int
    sure: bool


@dataclass(frozen=True)
class HeatMap:
    columns: list[ClassColumn]
    rows: list[tuple[Loss, list[HeatCell]]]
    scale: float


def class_columns(block: Block) -> list[ClassColumn]:
    """Commonest in training first."""
    pixels = np.asarray(block.train_pixels, dtype=np.float64)
    shares = 100 * pixels / pixels.sum() if pixels.sum() else np.full(len(pixels), np.nan)
    columns, seen = [], set()
    for name, classes in frequency_groups(block.train_pixels).items():
        for index in classes.tolist():
            columns.append(ClassColumn(block.class_names[index], float(shares[index]), name, name not in seen))
            seen.add(name)
    return columns


def heat_map(board: Board) -> HeatMap:
    """IoU of every loss and class. A shade is a fifth of the scale: the 90th percentile of the differences, so that one
    loss that failed does not make the others white."""
    block = board.block
    gains = [dict(class_gains(row, board)) for row in block.rows]
    sizes = sorted(abs(pair.mean) for found in gains for pair in found.values())
    scale = max(sizes[int(0.9 * (len(sizes) - 1))], 0.5) if sizes else 1.0
    columns = class_columns(block)
    rows = []
    for row, loss, found in zip(block.rows, board.losses, gains, strict=True):
        cells = []
        for column in columns:
            pair, iou = found.get(column.name), row.class_iou(column.name).mean
            if pair is None:
                cells.append(HeatCell(iou, None, 0, False))
                continue
            shade = int(np.clip(round(SHADES * pair.mean / scale), -SHADES, SHADES))
            sure = pair.interval is not None and (pair.interval[0] > 0 or pair.interval[1] < 0)
            cells.append(HeatCell(iou, pair.mean, shade, sure))
        rows.append((loss, cells))
    return HeatMap(columns, rows, scale)


@dataclass(frozen=True)
class SeedCell:
    seed: int
    id: str
    miou: float
    status: str
    stale: bool


@dataclass(frozen=True)
class SeedTable:
    """mIoU of each run; `left_out` seeds are not shown."""

    seeds: list[int]
    rows: list[tuple[Loss, list[SeedCell | None]]]
    left_out: int


def seed_table(board: Board, most: int = 40) -> SeedTable:
    """The runs of a block, a row per loss and a column per seed, of the first `most` seeds."""
    seeds = board.seeds[:most]
    rows = []
    for row, loss in zip(board.block.rows, board.losses, strict=True):
        facts: dict[int, tuple[str, bool]] = {}
        for part in row.runs.parts:
            for seed in row.runs.table.seeds[part.rows].tolist():
                facts[seed] = part.condition.status, bool(part.stale)
        values = row.runs.values("miou").tolist()
        by_seed = {
            seed: SeedCell(seed, run_id, value, *facts[seed])
            for seed, run_id, value in zip(row.runs.seeds, row.runs.ids, values, strict=True)
        }
        rows.append((loss, [by_seed.get(seed) for seed in seeds]))
    return SeedTable(seeds, rows, len(board.seeds) - len(seeds))


def shade_of(value: float | None, scale: float) -> int:
    """Of a difference in points."""
    if value is None or math.isnan(value):
        return 0
    return int(np.clip(round(SHADES * value / scale), -SHADES, SHADES))


def overview_scale(boards: Sequence[Board]) -> float:
    """Of the table of all losses and blocks: the 80th percentile of the differences, at least a point."""
    sizes = sorted(abs(row.delta.mean) for board in boards for row in board.block.rows if row.delta is not None)
    return max(sizes[int(0.8 * (len(sizes) - 1))], 1.0) if sizes else 1.0
