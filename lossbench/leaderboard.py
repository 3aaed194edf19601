"""The leaderboard: records in, comparable blocks of rows out. Pure; reads no file but a record's own sidecar.

A **block** holds what may be compared: one dataset, one backbone, the same classes and pixels, the same rule for
absent classes, the same training protocol. A **row** is one loss with its parameters, over all its seeds.

Where runs of a dataset and backbone differ in protocol (a suite that overrides the learning rate of one loss),
the protocol that most losses share makes the main block; the others get a block of their own whose title names what
differs. A difference to the reference is only ever taken within a block: between protocols it would not be the loss's.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lossbench.cells import canonical_json
from lossbench.comparison import labels, protocol, variants
from lossbench.errors import UnknownNameError, did_you_mean
from lossbench.records import Record
from lossbench.runs import Part, Run, Runs
from lossbench.runtable import Condition, RunTable
from lossbench.selection import fits, matches
from lossbench.standings import COLUMNS, Block, Row
from lossbench.store import StoredRecord
from lossbench.tabulate import tabulate
from lossbench.tuning.tracks import AS_IS, track_of

if TYPE_CHECKING:
    import pandas as pd

#: Why a record is stale: `provenance.stale_reasons` with its registries bound.
Stale = Callable[[Record | Condition], Sequence[str]]


def build(
    records: RunTable | Sequence[StoredRecord],
    *,
    dataset: str = "*",
    backbone: str = "*",
    loss: str = "*",
    sort: str = "miou",
    reference: str = "ce",
    stale: Stale | None = None,
    include_stale: bool = True,
    track: str = AS_IS,
) -> list[Block]:
    """Blocks of comparable rows, the blocks by name, the rows best first.

    Args:
        records: `Store.runs` or `Store.read_all`.
        dataset, backbone, loss: globs (case-sensitive); each matches a plugin's name or its label with parameters.
            `loss` filters what is shown: the reference is found all the same.
        sort: a key or a title of COLUMNS, "loss", or a class name (its IoU).
        reference: the loss that differences and time ratios refer to, by label or by name.
        stale: why a record is stale, e.g. `provenance.stale_reasons` with registries bound.
        include_stale: False leaves stale runs out altogether.
        track: whose runs. (`tuning.board.build_tracks` builds those of several.)

    Raises UnknownNameError for an unknown `sort`.
    """
    table = records if isinstance(records, RunTable) else _table_of(records)
    of_track = [track_of(condition.cell["protocol"]) == track for condition in table.conditions]
    if not all(of_track):
        table = table.take(np.flatnonzero(np.array(of_track)[table.condition]))
    found = parts(table, stale)
    if not include_stale:
        found = [part for part in found if not part.stale]
    found = [part for part in found if matches(part.condition, dataset=dataset, backbone=backbone)]
    sort = sort_key(sort, [part.condition for part in found])
    places: dict[str, list[Part]] = defaultdict(list)
    for part in found:
        places[canonical_json([part.condition.cell["dataset"], part.condition.cell["backbone"]])].append(part)
    titles = {component: labels(places, component) for component in ("dataset", "backbone")}
    blocks = []
    for key, members in places.items():
        for variant, comparable in variants(members, reference):
            block = _block(table, comparable, variant, loss, sort, reference)
            if block.rows:
                block.dataset, block.backbone = titles["dataset"][key], titles["backbone"][key]
                blocks.append(block)
    return sorted(blocks, key=lambda block: (block.dataset, block.backbone, bool(block.variant), block.variant))


def _table_of(records: Sequence[StoredRecord]) -> RunTable:
    return tabulate(Path(), ((str(stored.path), stored.record) for stored in records))


def parts(table: RunTable, stale: Stale | None = None) -> list[Part]:
    """The rows of a table by condition, in the order in which the conditions first occur."""
    order = np.argsort(table.condition, kind="stable")
    places, starts = np.unique(table.condition[order], return_index=True)
    ends = [*starts[1:].tolist(), len(table)]
    found = []
    for place, start, end in zip(places.tolist(), starts.tolist(), ends, strict=False):
        condition = table.conditions[place]
        found.append(Part(condition, order[start:end], tuple(stale(condition)) if stale else ()))
    return sorted(found, key=lambda part: int(part.rows[0]))


def sort_key(sort: str, records: Sequence[Record | Condition]) -> str:
    """The key of COLUMNS that `sort` means (its key, or its title in any case), "loss", or a class of some record.
    Raises UnknownNameError."""
    classes = {name for record in records for name in record.class_names}
    if sort in COLUMNS or sort == "loss" or sort in classes or not records:
        return sort
    for key, column in COLUMNS.items():
        if sort.casefold() in (key, column.title.casefold()):
            return key
    if sort.casefold() in ALIASES:
        return ALIASES[sort.casefold()]
    known = [*COLUMNS, "loss"]
    near = did_you_mean(sort, [*known, *classes]) or did_you_mean(sort.casefold(), known)
    raise UnknownNameError(
        f"cannot sort by '{sort}'",
        hint=near or f"columns: {', '.join(known)}; or a class name",
    )


#: Other names of columns, as people type them.
ALIASES = {
    **dict.fromkeys(("worst", "worst_miou", "worst5", "worst5_miou", "miou_worst"), "image_miou_worst"),
    **dict.fromkeys(("boundary_iou", "biou"), "boundary_miou"),
}

#: Of `--columns fine`.
FINE_COLUMNS = (
    "miou", "delta", "image_miou", "image_class_miou", "image_miou_worst", "tail_miou", "boundary_miou", "ece", "nll",
)  # fmt: skip


def column_keys(text: str) -> list[str]:
    """The keys of COLUMNS in a comma-separated list of keys or titles; "fine" stands for FINE_COLUMNS.
    Raises UnknownNameError."""
    titles = {column.title.casefold(): key for key, column in COLUMNS.items()}
    found: list[str] = []
    for name in filter(None, (part.strip() for part in text.split(","))):
        if name == "fine":
            found += FINE_COLUMNS
        elif name in COLUMNS or name.casefold() in titles:
            found.append(name if name in COLUMNS else titles[name.casefold()])
        elif name.casefold() in ALIASES:
            found.append(ALIASES[name.casefold()])
        else:
            known = [*COLUMNS, "fine"]
            hint = did_you_mean(name, known) or f"columns: {', '.join(known)}"
            raise UnknownNameError(f"no column '{name}'", hint=hint)
    if not found:
        raise UnknownNameError("no column is named", hint=f"columns: {', '.join(COLUMNS)}, fine")
    return list(dict.fromkeys(found))


def _block(table: RunTable, members: Sequence[Part], variant: str, loss: str, sort: str, reference: str) -> Block:
    groups: dict[str, list[Part]] = defaultdict(list)
    for part in members:
        groups[canonical_json(part.condition.cell["loss"])].append(part)
    names = labels(groups, "loss")
    rows = [Row(names[key], same[0].condition.cell["loss"], Runs(table, same)) for key, same in groups.items()]
    chosen, note = _reference_row(rows, reference)
    for row in rows:
        row.reference = chosen
    first = members[0].condition
    block = Block(
        dataset=first.labels["dataset"],
        backbone=first.labels["backbone"],
        variant=variant,
        protocol=protocol(first),
        class_names=first.class_names,
        train_pixels=first.train_pixels,
        absent_class_rule=first.absent_class_rule,
        rows=_sorted([row for row in rows if _row_matches(row, loss)], sort),
        reference=chosen.label if chosen else reference,
        sort=sort,
        hidden=[row for row in rows if not _row_matches(row, loss)],
        notes=[note] if note else [],
    )
    block.notes += _notes(block)
    return block


def _row_matches(row: Row, pattern: str) -> bool:
    first = row.runs.ordered_parts[0].condition
    return fits(row.label, pattern) or matches(first, loss=pattern)


def _reference_row(rows: Sequence[Row], reference: str) -> tuple[Row | None, str]:
    exact = [row for row in rows if row.label in (reference, reference.removesuffix("()"))]  # as in `--loss`
    named = exact or sorted((row for row in rows if row.loss["name"] == reference), key=lambda row: row.label)
    if len(named) == 1:
        return named[0], ""
    if named:
        options = " or ".join(f"'{row.label}'" for row in named[:3])
        return None, f"Several rows are '{reference}': differences are blank; choose one with --reference {options}."
    hint = did_you_mean(reference, {name for row in rows for name in (row.label, str(row.loss["name"]))})
    return None, f"No run of the reference '{reference}' here: differences are blank." + (f" {hint}" if hint else "")


def _sorted(rows: list[Row], sort: str) -> list[Row]:
    """Best first; rows without the figure last; then by label."""
    if sort == "loss":
        return sorted(rows, key=lambda row: row.label)
    higher = COLUMNS[sort].higher if sort in COLUMNS else True

    def key(row: Row) -> tuple[bool, float, str]:
        value = row.value(sort) if sort in COLUMNS else row.class_iou(sort).mean
        if sort == "delta" and row.is_reference:
            value = 0.0
        if math.isnan(value):
            return True, 0.0, row.label
        return False, -value if higher else value, row.label

    return sorted(rows, key=key)


def _notes(block: Block) -> list[str]:
    notes = []
    diverged = [f"{row.label} ({row.diverged} of {row.n})" for row in block.rows if row.diverged]
    if diverged:
        notes.append(f"Diverged runs (!) count as what they scored: {', '.join(diverged)}.")
    unscored = [f"{row.label} ({row.unscored} of {row.n})" for row in block.rows if row.unscored]
    if unscored:
        notes.append(
            "Runs that scored no pixel at all leave a mean over seeds blank and are not in the IoU of a class: "
            f"{', '.join(unscored)}."
        )
    if any(row.stale for row in block.rows):
        reasons: Counter[str] = Counter()
        for part in block.parts:
            for reason in part.stale:
                reasons[reason] += len(part.rows)
        listed = "; ".join(f"{reason} [{number} run{'s' * (number > 1)}]" for reason, number in reasons.most_common(3))
        more = f"; and {len(reasons) - 3} more (--json lists them)" if len(reasons) > 3 else ""
        notes.append(f"Stale (~), made by other code than is here now: {listed}{more}.")
    if len(block.machines) > 1:
        notes.append("Times and memory were taken on different machines; ratios only pair runs of equal machines.")
    return notes


# --- one row per run ---


def run_rows(records: Sequence[StoredRecord], stale: Stale | None = None) -> list[dict[str, Any]]:
    """One flat dictionary per run: names, labels, seed, status, scores and per-class IoU (`iou:<class>`) in percent,
    costs, hyper-parameters (`loss.gamma`, `dataset.imbalance` ...), protocol (`protocol.lr` ...). Tidy."""
    rows = []
    for stored in records:
        record = stored.record
        run = Run(stored, tuple(stale(record)) if stale else ())
        row: dict[str, Any] = {"id": record.id}
        for part in ("dataset", "backbone", "loss"):
            row[part] = record.labels[part]
            row[f"{part}_name"] = record.cell[part]["name"]
        row |= {"seed": record.seed, "status": record.status, "stale": "; ".join(run.stale)}
        row |= run.pooled | run.averaged
        row |= {key: record.costs.get(key) for key in ("ms_per_step", "peak_memory_mb", "extra_forwards", "train_s")}
        row |= {f"iou:{name}": value for name, value in run.class_iou.items()}
        for part in ("dataset", "backbone", "loss"):
            row |= {f"{part}.{name}": value for name, value in record.cell[part]["params"].items()}
        row |= {f"protocol.{name}": value for name, value in protocol(record).items()}
        rows.append(row)
    return rows


def frame(records: Sequence[StoredRecord], stale: Stale | None = None) -> pd.DataFrame:
    """`run_rows` as a pandas DataFrame, for notebooks."""
    import pandas as pd

    return pd.DataFrame(run_rows(records, stale))
