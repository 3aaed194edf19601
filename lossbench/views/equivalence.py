"""The tests on differences in tables: `lossbench leaderboard --equivalence`."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from lossbench.equivalence import ALPHA, POWER, Sensitivity, sensitivity
from lossbench.standings import Block, Row
from lossbench.views.grid import TESTS, Entry, Header

_HEADERS = dict(zip(TESTS, (Header("p diff"), Header("p equiv"), Header("verdict", numeric=False)), strict=True))


def header(key: str) -> Header:
    return _HEADERS[key]


def entry(key: str, row: Row) -> Entry:
    """A p with 3 decimals, or the verdict; "-" where nothing was tested."""
    if row.tested is None:
        return Entry("-")
    if key == "verdict":
        return Entry(row.tested.verdict)
    p = row.tested.p_difference if key == "p_difference" else row.tested.p_equivalence
    return Entry("<0.001" if p < 0.001 else f"{p:.3f}")


def note(block: Block) -> str:
    """Which tests, at which level, and what the verdicts mean."""
    if found_by(block) is None:
        return f"No row has two seeds in common with {block.reference}: no difference is tested."
    return (
        f"p diff: of the paired t-test that the difference is 0. p equiv: of TOST, the two one-sided paired t-tests "
        f"(Schuirmann 1987), that it lies within ±{block.margin:g} points. same: p equiv <= {ALPHA:g}; better, worse: "
        f"p diff < {ALPHA:g}; both: there is a difference, within the margin; open: neither. No correction for many "
        "comparisons."
    )


def detectable_line(block: Block) -> list[str]:
    """The minimum detectable effect, in a line; none where nothing is paired twice."""
    found = found_by(block)
    if found is None:
        return []
    line = (
        f"Minimum detectable difference: {_points(found.detectable)} points: a smaller one is found less than "
        f"{_share(POWER)} by a paired t-test at {ALPHA:g} with {found.n} seeds and the median sd of the differences, "
        f"{_points(found.sd)} ({_points(found.worst)} in the row of the largest sd)."
    )
    tested = sum(row.significance is not None for row in (*block.rows, *block.hidden))
    if tested > 1:
        strict = _points(found.corrected(tested))
        line += f" At {ALPHA:g} / {tested}, which Holm's correction asks of the smallest p: {strict} points."
    return [line]


def _share(power: float) -> str:
    return f"{power * 5:g} times in 5"


def _points(value: float) -> str:
    """Two decimals, or two digits of what is smaller."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def found_by(block: Block) -> Sensitivity | None:
    """What the block could have found at all."""
    return sensitivity([row.delta for row in block.rows if row.delta is not None])


def csv_fields(row: Row) -> dict[str, Any]:
    """Columns of the CSV."""
    tested = row.tested
    return {
        "margin": row.margin,
        "p_difference": math.nan if tested is None else tested.p_difference,
        "p_equivalence": math.nan if tested is None else tested.p_equivalence,
        "verdict": "" if tested is None else tested.verdict,
        "detectable": math.nan if tested is None else tested.detectable,
    }


def json_row(row: Row) -> dict[str, Any] | None:
    if row.tested is None:
        return None
    return asdict(row.tested)


def json_block(block: Block) -> dict[str, Any]:
    """The tests of a block, and the minimum detectable effect; points. `n`, `sd`, `detectable` are null where nothing
    was tested."""
    found = found_by(block)
    return {
        "margin": block.margin,
        "alpha": ALPHA,
        "difference": "two-sided paired t-test",
        "equivalence": "two one-sided paired t-tests (TOST)",
        "correction": None,
        "power": POWER,
        "n": found and found.n,
        "median_sd": found and found.sd,
        "detectable": found and found.detectable,
        "detectable_worst": found and found.worst,
    }
