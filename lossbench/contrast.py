"""Two losses against each other: overall, by class, and along class frequency. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossbench import metrics
from lossbench.errors import ConfigError, did_you_mean
from lossbench.selection import fits
from lossbench.standings import Block, Row
from lossbench.statistics import Paired, paired_difference


@dataclass(frozen=True)
class ClassGain:
    """A class: its share of the labelled training pixels in percent, its group (head, middle, tail), and its IoU minus
    the other's, paired over seeds; None where no seed has both."""

    name: str
    share: float
    group: str
    gain: Paired | None


@dataclass(frozen=True)
class Contrast:
    """`ours` minus `theirs` in one block, in points of IoU.

    Attributes:
        title: of the block.
        classes: commonest in training first.
        slope: of the gains over log10 of the class's share, in points for a class ten times as common: a slope per
            seed by least squares, then paired over seeds. Negative: the rarer a class, the more it gains.
    """

    title: str
    ours: str
    theirs: str
    miou: Paired
    classes: list[ClassGain]
    slope: Paired | None


def contrast(block: Block, ours: Row, theirs: Row) -> Contrast | None:
    """None where the two share no seed that scored."""
    miou = paired_difference(ours.by_seed("miou"), theirs.by_seed("miou"))
    if miou is None:
        return None
    pixels = np.asarray(block.train_pixels, dtype=np.float64)
    shares = pixels / pixels.sum() if pixels.sum() else pixels
    group = {int(c): name for name, found in metrics.frequency_groups(block.train_pixels).items() for c in found}
    gains = [paired_difference(_class_by_seed(ours, name), _class_by_seed(theirs, name)) for name in block.class_names]
    classes = [
        ClassGain(block.class_names[c], 100 * float(shares[c]), group[c], gains[c])
        for c in np.argsort(-pixels, kind="stable").tolist()
    ]
    return Contrast(block.title, ours.label, theirs.label, miou, classes, _slope(block, ours, theirs, shares))


def _class_by_seed(row: Row, name: str) -> dict[int, float]:
    return dict(zip(row.runs.seeds, row.runs.class_iou[name].tolist(), strict=True))


def _slope(block: Block, ours: Row, theirs: Row, shares: np.ndarray) -> Paired | None:
    slopes: dict[int, float] = {}
    tables = [{name: _class_by_seed(row, name) for name in block.class_names} for row in (ours, theirs)]
    for seed in sorted(set(ours.seeds) & set(theirs.seeds)):
        gains = np.array([tables[0][name][seed] - tables[1][name][seed] for name in block.class_names])
        known = ~np.isnan(gains) & (shares > 0)
        along = np.log10(shares[known])
        if len(along) > 1 and along.max() > along.min():
            slopes[seed] = float(np.polyfit(along, gains[known], 1)[0])
    return paired_difference(slopes, dict.fromkeys(slopes, 0.0))


def pick(block: Block, wanted: str) -> Row | None:
    """The row that a user means: by label, by name if one row has it, or by a glob that one row fits; None where the
    block has none. Raises ConfigError where several fit."""
    exact = [row for row in block.rows if row.label == wanted]
    found = (
        exact
        or [row for row in block.rows if row.loss["name"] == wanted]
        or [row for row in block.rows if fits(row.label, wanted) or fits(str(row.loss["name"]), wanted)]
    )
    if len(found) > 1:
        options = ", ".join(f"'{row.label}'" for row in found[:4]) + (", ..." if len(found) > 4 else "")
        raise ConfigError(f"'{wanted}' fits {len(found)} rows of {block.title}", hint=f"name one: {options}")
    return found[0] if found else None


def compare_losses(blocks: Sequence[Block], ours: str, theirs: str) -> tuple[list[Contrast], list[str]]:
    """The contrasts of all blocks that have both, and a line for each that has not.

    Raises ConfigError where no block has both, or a name fits several rows.
    """
    found, missing = [], []
    for block in blocks:
        rows = pick(block, ours), pick(block, theirs)
        if rows[0] is None or rows[1] is None:
            absent = [name for name, row in zip((ours, theirs), rows, strict=True) if row is None]
            missing.append(f"{block.title}: no run of {' and of '.join(absent)}.")
            continue
        made = contrast(block, rows[0], rows[1])
        if made is None:
            missing.append(f"{block.title}: {rows[0].label} and {rows[1].label} share no seed.")
        else:
            found.append(made)
    if not found:
        known = {name for block in blocks for row in block.rows for name in (row.label, str(row.loss["name"]))}
        unknown = [name for name in (ours, theirs) if not any(pick(block, name) for block in blocks)]
        hint = did_you_mean(unknown[0], known) if unknown else "they are never in one block: see the titles"
        what = f"no run of '{unknown[0]}'" if unknown else f"no block has both '{ours}' and '{theirs}'"
        raise ConfigError(what, hint=hint or "`lossbench leaderboard` shows what there is")
    return found, missing
