"""What the seeds say of every row of a block against its reference: better, worse, the same, or not told apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lossbench.equivalence import ALPHA, compare
from lossbench.significance import holm
from lossbench.standings import Block, Row
from lossbench.views.equivalence import found_by

#: A margin that nothing lies within: where no equivalence is asked for.
_NONE = 1e-300

REFERENCE, BETTER, WORSE, SAME, OPEN, UNTESTED = "reference", "better", "worse", "same", "open", "untested"
#: Mark, and words for a reader.
MARKS: Mapping[str, tuple[str, str]] = {
    REFERENCE: ("", "the reference"),
    BETTER: ("▲", "better"),
    WORSE: ("▼", "worse"),
    SAME: ("≈", "same within the margin"),
    OPEN: ("○", "not separable"),
    UNTESTED: ("", "not tested"),
}


@dataclass(frozen=True)
class Judgement:
    """Verdict on a row. `p` of the paired t-test, `holm` adjusted for the rows of its block, `equivalent` p of TOST;
    NaN where there is none."""

    verdict: str
    p: float = math.nan
    holm: float = math.nan
    equivalent: float = math.nan

    @property
    def mark(self) -> str:
        return MARKS[self.verdict][0]

    @property
    def words(self) -> str:
        return MARKS[self.verdict][1]


def judge(block: Block, margin: float | None = None) -> list[Judgement]:
    """One for each row of the block, in its order.

    Args:
        margin: of the equivalence test, in points; None: no row is called the same.
    """
    tested = {i: compare(row.delta, margin or _NONE) for i, row in enumerate(block.rows)}
    known = {i: found for i, found in tested.items() if found is not None}
    adjusted = dict(zip(known, holm([found.p_difference for found in known.values()]), strict=True))
    return [
        _judged(row, known[i].p_difference, adjusted[i], known[i].p_equivalence if margin else math.nan)
        if i in known
        else Judgement(REFERENCE if row.is_reference else UNTESTED)
        for i, row in enumerate(block.rows)
    ]


def _judged(row: Row, p: float, adjusted: float, equivalent: float) -> Judgement:
    assert row.delta is not None
    if equivalent <= ALPHA:
        verdict = SAME
    elif adjusted < ALPHA:
        verdict = BETTER if row.delta.mean > 0 else WORSE
    else:
        verdict = OPEN
    return Judgement(verdict, p, adjusted, equivalent)


def corrected(block: Block) -> float:
    """As `found_by(block).detectable`, but by the rule of the verdicts: of a difference that is the block's only one,
    which Holm's correction holds to ALPHA divided by the number of rows tested. NaN where nothing is tested."""
    found = found_by(block)
    tested = sum(row.delta is not None and row.delta.sd is not None for row in block.rows)
    return math.nan if found is None else found.corrected(tested)
