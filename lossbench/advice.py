"""Which losses are worth trying for a dataset with these class shares, by what was measured on others. Pure.

Four numbers describe a dataset's labelled training pixels (`Shape`); the distance of two is the sum of how far three
of them, all but the number of classes, are apart on a logarithmic scale. That is a rough guide and no more: textures,
sizes and labels count as well, and no number here knows of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lossbench.cells import canonical_json
from lossbench.equivalence import detectable
from lossbench.errors import ConfigError
from lossbench.metrics import frequency_groups
from lossbench.significance import ALPHA, of_rows
from lossbench.standings import Block, Row
from lossbench.statistics import Paired, paired_difference

#: Blocks no further than this from the dataset are comparable.
NEAR = 1.0
#: A difference that matters, in points of mIoU: what the seeds of a new experiment should find.
MATTERS = 1.0

#: Better somewhere and below the reference nowhere; better somewhere, elsewhere below it by what may be noise; better
#: somewhere and worse elsewhere; neither; worse somewhere and better nowhere.
FIRST, PARTLY, MIXED, OPEN, WORSE = "worth trying", "partly better", "mixed", "not separated", "worse"
GROUPS = (FIRST, PARTLY, MIXED, OPEN, WORSE)
#: Pixels of a class: more are no count.
_MOST = 2**53


@dataclass(frozen=True)
class Shape:
    """What class shares look like.

    Attributes:
        classes: with at least one pixel.
        ratio: pixels of the commonest over those of the rarest class.
        effective: exp of the entropy of the shares: as many classes of equal size are as diverse.
        tail: share of the rarest third of the classes, 0..1.
    """

    classes: int
    ratio: float
    effective: float
    tail: float

    def distance(self, other: Shape) -> float:
        """1 for ten times the imbalance, or a tail of a tenth, or twice the effective number of classes."""
        return (
            abs(math.log10(self.ratio / other.ratio))
            + abs(math.log10(self.tail / other.tail))
            + abs(math.log2(self.effective / other.effective))
        )


def shape_of(counts: Sequence[int]) -> Shape:
    """Of labelled training pixels per class; classes without any are left out.

    Raises ConfigError for fewer than two classes with pixels, and for negative or impossible counts.
    """
    pixels = np.asarray(counts, dtype=np.float64)
    if pixels.ndim != 1 or not np.isfinite(pixels).all() or (pixels < 0).any():
        raise ConfigError("class counts must be numbers >= 0", hint="labelled training pixels, one number a class")
    if (pixels > _MOST).any():
        raise ConfigError(f"a class count of {pixels.max():g} is no count", hint=f"they are at most {_MOST:.2g}")
    pixels = pixels[pixels > 0]
    if len(pixels) < 2:
        raise ConfigError("fewer than two classes have pixels", hint="there is no imbalance to advise on")
    shares = pixels / pixels.sum()
    rare = frequency_groups(pixels.astype(np.int64))["tail"]
    return Shape(
        classes=len(pixels),
        ratio=float(pixels.max() / pixels.min()),
        effective=float(np.exp(-(shares * np.log(shares)).sum())),
        tail=float(shares[rare].sum()),
    )


@dataclass(frozen=True)
class Evidence:
    """One loss in one comparable block: differences to the reference in points, paired over seeds; `verdict` by the
    t-test after Holm's correction over the block: "better", "worse" or "open" ("" with one seed)."""

    block: str
    distance: float
    miou: Paired | None
    tail: Paired | None
    time_ratio: float | None
    verdict: str


@dataclass(frozen=True)
class Candidate:
    """A loss: what all comparable blocks say of it, in `group` as one of GROUPS."""

    label: str
    loss: dict[str, Any]
    group: str
    evidence: list[Evidence]

    @property
    def gain(self) -> float:
        """Mean over the blocks of the mean difference in mIoU; NaN without any."""
        known = [each.miou.mean for each in self.evidence if each.miou is not None]
        return sum(known) / len(known) if known else math.nan

    @property
    def tail_gain(self) -> float:
        known = [each.tail.mean for each in self.evidence if each.tail is not None]
        return sum(known) / len(known) if known else math.nan


@dataclass
class Advice:
    """For a dataset of `shape`.

    Attributes:
        reference, reference_loss: what was asked for, and the loss that it is: name and params.
        near: title and distance of each comparable block, the nearest first.
        candidates: by group, the largest gain first.
        seeds: that a paired t-test needs to find MATTERS points in four of five cases, with the median spread of the
            comparable blocks; None where nothing was paired.
        cautions: what a reader must know before believing any of it.
    """

    shape: Shape
    reference: str
    reference_loss: dict[str, Any]
    near: list[tuple[str, float, Shape]]
    candidates: list[Candidate]
    seeds: int | None
    cautions: list[str] = field(default_factory=list)

    def of(self, group: str) -> list[Candidate]:
        return [each for each in self.candidates if each.group == group]


def advise(shape: Shape, blocks: Sequence[Block], reference: str) -> Advice:
    """What the blocks of a leaderboard say for a dataset of that shape.

    Only blocks with runs of the reference count, and of each dataset and backbone the usual protocol. Comparable are
    those within NEAR; where none is, the nearest of each backbone, with a caution.

    Raises ConfigError when no block has the reference and another loss.
    """
    cautions: list[str] = []
    usable = _shapes(blocks, cautions)
    if not usable:
        raise ConfigError(
            f"nothing measured here tells of a difference to '{reference}'",
            hint="run a suite with the reference and other losses, or choose another one with --versus",
        )
    ranked = sorted(
        ((shape.distance(own), block.title, block, own) for block, own in usable), key=lambda item: item[:2]
    )
    chosen = [item for item in ranked if item[0] <= NEAR]
    if not chosen:
        seen: dict[str, Any] = {}
        for item in ranked:
            seen.setdefault(item[2].backbone, item)
        chosen = list(seen.values())
        cautions.append(
            f"No measured dataset is near (distance {NEAR:g}): what follows is from the nearest, at {chosen[0][0]:.1f}."
        )
    cautions += _outside(shape, [own for _, own in usable])
    cautions += _narrow([block for _, _, block, _ in chosen])
    evidence: dict[str, tuple[Row, list[Evidence]]] = {}
    for distance, title, block, _ in chosen:
        for row, found in _evidence(block, title, distance):
            evidence.setdefault(canonical_json(row.loss), (row, []))[1].append(found)
    candidates = [Candidate(row.label, dict(row.loss), _group(found), found) for row, found in evidence.values()]
    candidates.sort(key=lambda each: (GROUPS.index(each.group), -_sortable(each.gain), each.label))
    spreads = [each.miou.sd for _, found in evidence.values() for each in found if each.miou and each.miou.sd]
    near = [(title, distance, own) for distance, title, _, own in chosen]
    theirs = next(row.reference for row, _ in evidence.values() if row.reference is not None)
    return Advice(shape, theirs.label, dict(theirs.loss), near, candidates, _seeds(spreads), cautions)


def _shapes(blocks: Sequence[Block], cautions: list[str]) -> list[tuple[Block, Shape]]:
    """Of the usual protocols that have differences to the reference; a caution names those without class shares."""
    found, odd = [], []
    for block in blocks:
        if block.variant or all(row.delta is None for row in block.rows):
            continue
        try:
            found.append((block, shape_of(block.train_pixels)))
        except ConfigError as error:
            odd.append(f"{block.title} ({error.message})")
    if odd:
        cautions.append(f"Left out, for their training pixels: {', '.join(odd)}.")
    return found


def _evidence(block: Block, title: str, distance: float) -> list[tuple[Row, Evidence]]:
    rows = [row for row in block.rows if row.delta is not None and row.reference is not None]
    tested = of_rows([row.differences for row in rows], "t")
    found = []
    for row, test in zip(rows, tested, strict=True):
        assert row.reference is not None
        verdict = "" if test is None else "open"
        if test is not None and test.p_holm <= ALPHA and row.delta is not None:
            verdict = "better" if row.delta.mean > 0 else "worse"
        tail = paired_difference(row.by_seed("tail_miou"), row.reference.by_seed("tail_miou"))
        found.append((row, Evidence(title, distance, row.delta, tail, row.time_ratio, verdict)))
    return found


def _group(evidence: Sequence[Evidence]) -> str:
    verdicts = [each.verdict for each in evidence]
    if "better" in verdicts and "worse" in verdicts:
        return MIXED
    if "better" in verdicts:
        return FIRST if all(each.miou is not None and each.miou.mean > 0 for each in evidence) else PARTLY
    return WORSE if "worse" in verdicts else OPEN


def _outside(shape: Shape, measured: Sequence[Shape]) -> list[str]:
    """Where the dataset lies beyond all that was measured."""
    lines = []
    for name, digits, unit in (("ratio", 0, ":1"), ("effective", 1, ""), ("classes", 0, "")):
        values = [getattr(each, name) for each in measured]
        value, low, high = getattr(shape, name), min(values), max(values)
        if not low / 1.05 <= value <= 1.05 * high:
            words = {"ratio": "imbalance", "effective": "effective number of classes", "classes": "number of classes"}
            span = f"{low:,.{digits}f}{unit}" + (f" to {high:,.{digits}f}{unit}" if high > low else "")
            lines.append(f"Its {words[name]}, {value:,.{digits}f}{unit}, lies outside of what was measured: {span}.")
    return lines


def _narrow(blocks: Sequence[Block]) -> list[str]:
    lines = []
    backbones = sorted({block.backbone for block in blocks})
    if len(backbones) == 1:
        lines.append(f"Only one backbone was measured there: {backbones[0]}.")
    steps = sorted({int(block.protocol["iterations"]) for block in blocks})
    span = f"{steps[0]:,}" + (f" to {steps[-1]:,}" if len(steps) > 1 else "")
    lines.append(f"Schedules of {span} iterations at one learning rate for all losses: see docs/tuning.md.")
    few = min(max((row.n for row in block.rows), default=0) for block in blocks)
    if few < 3:
        lines.append("Fewer than 3 seeds in one of them: little can be told apart.")
    return lines


def _seeds(spreads: Sequence[float]) -> int | None:
    if not spreads:
        return None
    sd = float(np.median(spreads))
    return next((n for n in range(2, 101) if detectable(sd, n) <= MATTERS), 100)


def _sortable(value: float) -> float:
    return -math.inf if math.isnan(value) else value
