"""Tests and bootstrap intervals in tables: `lossbench leaderboard --test`, `--bootstrap`."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from lossbench.bootstrap import Interval
from lossbench.significance import ALPHA, Test, seeds_needed, smallest_p
from lossbench.standings import Block, Row
from lossbench.views.grid import Entry, Header

_NAMES: dict[Test, str] = {
    "t": "paired t-test",
    "permutation": "paired permutation test (all sign flips of the seeds' differences)",
    "wilcoxon": "Wilcoxon signed-rank test, exact",
}


def header(key: str) -> Header:
    if key in ("miou_interval", "delta_interval"):
        return Header("bootstrap" if key == "miou_interval" else "Δ bootstrap", "95 %")
    return Header("p" if key == "p" else "p Holm")


def entry(key: str, row: Row) -> Entry:
    """An interval as "low..high", or a p with 3 decimals, the corrected one with its mark; "-" where there is none."""
    if key == "miou_interval":
        return Entry(_range(row.miou_interval, signed=False))
    if key == "delta_interval":
        return Entry(_range(row.delta_interval, signed=True))
    if row.significance is None:
        return Entry("-")
    if key == "p":
        return Entry(p_text(row.significance.p))
    return Entry(p_text(row.significance.p_holm) + row.significance.mark)


def p_text(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _range(found: Interval | None, *, signed: bool) -> str:
    if found is None or math.isnan(found.low):
        return "-"
    return f"{found.low:+.2f}..{found.high:+.2f}" if signed else f"{found.low:.2f}..{found.high:.2f}"


def note(block: Block) -> list[str]:
    """What was tested and drawn, and what the tests of this block cannot reach."""
    lines = []
    tested = [row for row in [*block.rows, *block.hidden] if row.significance is not None]
    rows = "the one row" if len(tested) == 1 else f"all {len(tested)} rows"
    where = ", shown here or not" if any(row.significance for row in block.hidden) else ""
    if block.test is not None:
        lines.append(
            f"p: {_NAMES[block.test]}, two-sided, that the difference is 0. p Holm: corrected for "
            f"{rows} tested{where} (Holm 1979); * up to 0.05, ** 0.01, *** 0.001."
            if tested
            else "No row has two seeds in common with the reference: no difference is tested."
        )
    return [*lines, *_bootstrap_note(block)]


def _bootstrap_note(block: Block) -> list[str]:
    found = [each for row in block.rows for each in (row.miou_interval, row.delta_interval) if each is not None]
    if not found:
        return []
    fewest, most = min(each.seeds for each in found), max(each.seeds for each in found)
    drawn = "the seeds and of " if most > 1 else ""
    lines = [
        f"Bootstrap: 95 % percentile intervals{', expanded for few seeds,' if most > 1 else ''} over "
        f"{found[0].resamples:,} resamples of {drawn}the {found[0].images} images, the same images for all losses."
    ]
    if fewest == 1:
        who = "They are of the images only" if most == 1 else "Those of one seed are of the images only"
        lines.append(f"{who}: how far another seed would move a score, they do not say.")
    if most > 1 and fewest < seeds_needed():
        rows = "" if most < seeds_needed() else ", as some rows have,"
        lines.append(f"Fewer than {seeds_needed()} seeds{rows} are too few for them: they miss the truth too often.")
    return [" ".join(lines)]


def reach(block: Block) -> list[str]:
    """Which tests cannot reach significance with so few seeds, in a line; none where all can."""
    pairs = [row.delta.n for row in [*block.rows, *block.hidden] if row.delta is not None]
    if not pairs or max(pairs) < 2:
        return []
    n, rows = max(pairs), len(pairs)
    if n < seeds_needed():
        more = f", and {seeds_needed(rows)} for {rows} rows after Holm's correction" if rows > 1 else ""
        return [
            f"With {n} paired seeds no permutation or Wilcoxon test reaches p = {ALPHA:g} (at best "
            f"{smallest_p(n):.2g}); it takes {seeds_needed()}{more}."
        ]
    if block.test in ("permutation", "wilcoxon") and n < seeds_needed(rows):
        return [
            f"With {n} paired seeds no row of {rows} can reach p Holm = {ALPHA:g} by this test (at best "
            f"{min(1.0, rows * smallest_p(n)):.2g}); it takes {seeds_needed(rows)}."
        ]
    return []


def csv_fields(block: Block, row: Row) -> dict[str, Any]:
    """Columns of the CSV that were asked for."""
    fields: dict[str, Any] = {}
    if block.test is not None:
        found = row.significance
        fields |= {"test": block.test, "p": found and found.p, "p_holm": found and found.p_holm}
    if block.resamples is not None:
        for name, interval in (("miou", row.miou_interval), ("delta", row.delta_interval)):
            fields |= {f"{name}_boot_low": interval and interval.low, f"{name}_boot_high": interval and interval.high}
    return fields


def json_fields(block: Block, row: Row) -> dict[str, Any]:
    """Members of a row that were asked for; None where there was nothing to test or draw."""
    fields: dict[str, Any] = {}
    if block.test is not None:
        fields["significance"] = row.significance and asdict(row.significance)
    if block.resamples is not None:
        fields["bootstrap"] = {
            "miou": row.miou_interval and asdict(row.miou_interval),
            "delta": row.delta_interval and asdict(row.delta_interval),
        }
    return fields
