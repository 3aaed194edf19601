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
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING, Any

from lossbench.cells import canonical_json
from lossbench.errors import ConfigError, UnknownNameError, did_you_mean
from lossbench.protocol import Protocol
from lossbench.records import Record
from lossbench.standings import COLUMNS, Block, Row, Run
from lossbench.store import StoredRecord

if TYPE_CHECKING:
    import pandas as pd

#: Why a record is stale: `provenance.stale_reasons` with its registries bound.
Stale = Callable[[Record], Sequence[str]]


def build(
    records: Sequence[StoredRecord],
    *,
    dataset: str = "*",
    backbone: str = "*",
    loss: str = "*",
    sort: str = "miou",
    reference: str = "ce",
    stale: Stale | None = None,
    include_stale: bool = True,
) -> list[Block]:
    """Blocks of comparable rows, the blocks by name, the rows best first.

    Args:
        dataset, backbone, loss: globs (case-sensitive); each matches a plugin's name or its label with parameters.
            `loss` filters what is shown: the reference is found all the same.
        sort: a key or a title of COLUMNS, "loss", or a class name (its IoU).
        reference: the loss that differences and time ratios refer to, by label or by name.
        stale: why a record is stale, e.g. `provenance.stale_reasons` with registries bound.
        include_stale: False leaves stale runs out altogether.

    Raises UnknownNameError for an unknown `sort`.
    """
    runs = [Run(stored, tuple(stale(stored.record)) if stale else ()) for stored in records]
    if not include_stale:
        runs = [run for run in runs if not run.stale]
    runs = [run for run in runs if _matches(run.record, dataset=dataset, backbone=backbone)]
    sort = sort_key(sort, [run.record for run in runs])
    places: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        places[canonical_json([run.record.cell["dataset"], run.record.cell["backbone"]])].append(run)
    titles = {
        part: _labels({key: [run.record for run in members] for key, members in places.items()}, part)
        for part in ("dataset", "backbone")
    }
    blocks = []
    for key, members in places.items():
        for variant, comparable in _variants(members, reference):
            block = _block(comparable, variant, loss, sort, reference)
            if block.rows:
                block.dataset, block.backbone = titles["dataset"][key], titles["backbone"][key]
                blocks.append(block)
    return sorted(blocks, key=lambda block: (block.dataset, block.backbone, bool(block.variant), block.variant))


def sort_key(sort: str, records: Sequence[Record]) -> str:
    """The key of COLUMNS that `sort` means (its key, or its title in any case), "loss", or a class of some record.
    Raises UnknownNameError."""
    classes = {name for record in records for name in record.class_names}
    if sort in COLUMNS or sort == "loss" or sort in classes or not records:
        return sort
    for key, column in COLUMNS.items():
        if sort.casefold() in (key, column.title.casefold()):
            return key
    known = [*COLUMNS, "loss"]
    near = did_you_mean(sort, [*known, *classes]) or did_you_mean(sort.casefold(), known)
    raise UnknownNameError(
        f"cannot sort by '{sort}'",
        hint=near or f"columns: {', '.join(known)}; or a class name",
    )


def _matches(record: Record, **patterns: str) -> bool:
    return all(
        record.labels[part] == pattern
        or fnmatchcase(record.cell[part]["name"], pattern)
        or fnmatchcase(record.labels[part], pattern)
        for part, pattern in patterns.items()
    )


# --- what may be compared ---


def _protocol(record: Record) -> dict[str, Any]:
    """The protocol, with today's defaults for keys that did not exist when the record was made."""
    return {**_protocol_defaults(), **record.cell["protocol"]}


@cache
def _protocol_defaults() -> dict[str, Any]:
    return Protocol().model_dump(mode="json")


def _data_key(record: Record) -> str:
    """Classes, rule and pixels: equal data have equal counts per class, in training and in the scored truth.
    A run that scored nothing has no truth counts and is told by the rest alone."""
    truth = record.confusion.sum(axis=1).tolist()
    return canonical_json([record.class_names, record.absent_class_rule, record.train_pixels, truth])


def _variants(runs: list[Run], reference: str) -> list[tuple[str, list[Run]]]:
    """Comparable groups of one dataset and backbone, each with a word on how it differs from the main one."""
    groups: dict[tuple[str, str], list[Run]] = defaultdict(list)
    unscored = []
    for run in runs:
        if run.record.confusion.any():
            groups[canonical_json(_protocol(run.record)), _data_key(run.record)].append(run)
        else:
            unscored.append(run)
    for run in unscored:
        protocol = canonical_json(_protocol(run.record))
        like = [key for key, members in groups.items() if key[0] == protocol and _same_classes(run, members[0])]
        groups[max(like, key=lambda key: len(groups[key])) if like else (protocol, _data_key(run.record))].append(run)

    def weight(key: tuple[str, str]) -> tuple[int, bool, int, tuple[str, str]]:
        losses = {canonical_json(run.record.cell["loss"]) for run in groups[key]}
        has_reference = any(run.record.cell["loss"]["name"] == reference for run in groups[key])
        return len(losses), has_reference, len(groups[key]), key

    main = max(groups, key=weight)
    return [(_difference(groups[key][0].record, groups[main][0].record, key, main), groups[key]) for key in groups]


def _same_classes(run: Run, other: Run) -> bool:
    ours, theirs = run.record, other.record
    return (ours.class_names, ours.train_pixels) == (theirs.class_names, theirs.train_pixels)


def _difference(record: Record, main: Record, key: tuple[str, str], main_key: tuple[str, str]) -> str:
    """How a variant differs from the main block: "lr 0.001 instead of 0.01"."""
    if key == main_key:
        return ""
    ours, theirs = _protocol(record), _protocol(main)
    words = [
        f"{name} {_text(ours[name])} instead of {_text(theirs.get(name))}"
        for name in ours
        if ours[name] != theirs.get(name)
    ]
    if key[1] != main_key[1]:
        if record.class_names != main.class_names:
            ours_only = [name for name in record.class_names if name not in main.class_names]
            listed = ", ".join(ours_only[:3]) + (", ..." if len(ours_only) > 3 else "") or "another order or a subset"
            words.append(f"other classes: {len(record.class_names)} ({listed})")
        elif record.absent_class_rule != main.absent_class_rule:
            words.append(f"absent classes {record.absent_class_rule}")
        else:
            pixels, usual = int(record.confusion.sum()), int(main.confusion.sum())
            words.append(
                f"other data: {pixels:,} scored pixels" + (f" instead of {usual:,}" if pixels != usual else "")
            )
    return "; ".join(words)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    return "off" if value is None else str(value)


def _labels(groups: Mapping[str, Sequence[Record]], part: str) -> dict[str, str]:
    """A label for each group of records of one identity: the commonest, made unique by the parameters that differ.

    Labels show only what a suite spelled out, so two identities may share one (another default, another suite).
    """
    labels = {
        key: Counter(record.labels[part] for record in records).most_common(1)[0][0] for key, records in groups.items()
    }
    identities = {key: records[0].cell[part] for key, records in groups.items()}
    by_label: dict[str, list[str]] = defaultdict(list)
    for key, label in labels.items():
        by_label[label].append(key)
    for label, keys in by_label.items():
        params = {key: identities[key]["params"] for key in keys}
        names = sorted({name for group in params.values() for name in group})
        differing = [n for n in names if len({canonical_json(p.get(n, "-")) for p in params.values()}) > 1]
        if differing:
            base = identities[keys[0]]["name"]
            for key in keys:
                shown = ", ".join(f"{name}={_text(params[key].get(name, '-'))}" for name in differing)
                labels[key] = f"{base}({shown})" if label == base else f"{label[:-1]}, {shown})"
    return labels


def _block(runs: list[Run], variant: str, loss: str, sort: str, reference: str) -> Block:
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[canonical_json(run.record.cell["loss"])].append(run)
    labels = _labels({key: [run.record for run in members] for key, members in groups.items()}, "loss")
    rows = [
        Row(labels[key], members[0].record.cell["loss"], sorted(members, key=lambda run: run.seed))
        for key, members in groups.items()
    ]
    chosen, note = _reference_row(rows, reference)
    for row in rows:
        row.reference = chosen
    first = runs[0].record
    block = Block(
        dataset=first.labels["dataset"],
        backbone=first.labels["backbone"],
        variant=variant,
        protocol=_protocol(first),
        class_names=first.class_names,
        train_pixels=first.train_pixels,
        absent_class_rule=first.absent_class_rule,
        rows=_sorted([row for row in rows if _row_matches(row, loss)], sort),
        reference=chosen.label if chosen else reference,
        sort=sort,
        notes=[note] if note else [],
    )
    block.notes += _notes(block)
    return block


def _row_matches(row: Row, pattern: str) -> bool:
    return row.label == pattern or fnmatchcase(row.label, pattern) or _matches(row.runs[0].record, loss=pattern)


def _reference_row(rows: Sequence[Row], reference: str) -> tuple[Row | None, str]:
    exact = [row for row in rows if row.label == reference]
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
    if any(row.stale for row in block.rows):
        reasons = Counter(reason for run in block.runs for reason in run.stale)
        listed = "; ".join(f"{reason} [{number} run{'s' * (number > 1)}]" for reason, number in reasons.most_common(3))
        more = f"; and {len(reasons) - 3} more (--json lists them)" if len(reasons) > 3 else ""
        notes.append(f"Stale (~), made by other code than is here now: {listed}{more}.")
    if len({run.machine for run in block.runs}) > 1:
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
        row |= {f"protocol.{name}": value for name, value in _protocol(record).items()}
        rows.append(row)
    return rows


def frame(records: Sequence[StoredRecord], stale: Stale | None = None) -> pd.DataFrame:
    """`run_rows` as a pandas DataFrame, for notebooks."""
    import pandas as pd

    return pd.DataFrame(run_rows(records, stale))


def select(
    records: Sequence[StoredRecord], *, dataset: str = "*", backbone: str = "*", loss: str = "*"
) -> list[StoredRecord]:
    """The records whose names or labels match all globs, sorted by dataset, backbone, loss and seed.

    Raises ConfigError that names the glob nothing matches, when nothing does.
    """
    patterns = {"dataset": dataset, "backbone": backbone, "loss": loss}
    found = [stored for stored in records if _matches(stored.record, **patterns)]
    if records and not found:
        for part, pattern in patterns.items():
            if not any(_matches(stored.record, **{part: pattern}) for stored in records):
                known = sorted({stored.record.cell[part]["name"] for stored in records})
                raise ConfigError(
                    f"no record matches --{part} '{pattern}'",
                    hint=did_you_mean(pattern, known) or f"there are records of: {', '.join(known)}",
                )
        raise ConfigError("no record matches all of --dataset, --backbone and --loss", hint="widen one of them")
    return sorted(
        found,
        key=lambda s: (s.record.labels["dataset"], s.record.labels["backbone"], s.record.labels["loss"], s.record.seed),
    )
