"""Which rows of the leaderboard a set of records touches, for the table in a pull request."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lossbench.index import read_table
from lossbench.leaderboard import build
from lossbench.runs import Runs
from lossbench.runtable import RunTable
from lossbench.scan import STAMP, Scan
from lossbench.verification.tree import look
from lossbench.verification.verify import Report


@dataclass(frozen=True)
class Touched:
    """A row, of which some runs are new. Scores in percent; `delta` in points, paired over seeds, to `reference`; NaN
    where there is none. `seeds` are the new ones of `n`."""

    block: str
    loss: str
    seeds: tuple[int, ...]
    n: int
    miou: float
    sd: float | None
    delta: float
    reference: str
    machines: tuple[str, ...]


def touched(table: RunTable, ids: Collection[int], reference: str = "ce") -> list[Touched]:
    """Rows with any of these ids (as unsigned integers), in the order of the leaderboard."""
    wanted = np.array(sorted(ids), dtype=np.uint64)
    found = []
    for block in build(table, reference=reference):
        for row in block.rows:
            new = np.isin(table.ids[row.runs.rows], wanted)
            if new.any():
                seeds = tuple(seed for seed, is_new in zip(row.runs.seeds, new.tolist(), strict=True) if is_new)
                miou = row.describe("miou")
                found.append(
                    Touched(
                        block.title, row.label, seeds, row.n, miou.mean, miou.sd, row.value("delta"), block.reference,
                        _machines(row.runs),
                    )
                )  # fmt: skip
    return found


def _machines(runs: Runs) -> tuple[str, ...]:
    names = set()
    for part in runs.parts:
        hardware = part.condition.provenance.get("hardware") or {}
        gpu = hardware.get("gpu") or {}
        names.add(str(gpu.get("name") or hardware.get("cpu") or "unknown"))
    return tuple(sorted(names))


def touched_by(report: Report, results: Path, cache: Path | None, reference: str = "ce") -> list[Touched]:
    """The rows that the records of a report touch, but for those with an error; none if it is about all records.
    Broken files and links are not read: of the others none is left out."""
    wrong = {problem.path for problem in report.problems if not problem.warning}
    sound = [path.removeprefix("records/") for path in report.added or () if path not in wrong]
    if not sound:
        return []
    folder = results / "records"
    tree = look(str(folder))
    fine = [place for place, path in enumerate(tree.paths) if f"records/{path}" not in wrong]
    table, _ = read_table(folder, cache, "checked", Scan([tree.paths[at] for at in fine], tree.stamps[fine, :STAMP]))
    new = set(sound)
    rows = [row for row, path in enumerate(table.paths) if path in new]
    return touched(table, [int(table.ids[row]) for row in rows], reference)
