"""Which records a user asks for: globs over names and labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from lossbench.errors import ConfigError, did_you_mean
from lossbench.records import Record
from lossbench.runtable import Condition
from lossbench.store import StoredRecord


def fits(label: str, pattern: str) -> bool:
    """Whether a label matches a glob; several globs are separated by `|`. `ce()` is the label `ce`: a loss at its
    defaults, where `ce` is also the name of all its settings."""
    return label == pattern or any(_glob(label, glob) or f"{label}()" == glob for glob in pattern.split("|"))


def matches(record: Record | Condition, **patterns: str) -> bool:
    """Whether a record's name or label of each part (dataset, backbone, loss) fits its pattern."""
    return all(
        fits(record.labels[part], pattern) or any(_glob(record.cell[part]["name"], glob) for glob in pattern.split("|"))
        for part, pattern in patterns.items()
    )


def _glob(name: str, glob: str) -> bool:
    return name == glob or fnmatchcase(name, glob)


def select(
    records: Sequence[StoredRecord], *, dataset: str = "*", backbone: str = "*", loss: str = "*"
) -> list[StoredRecord]:
    """The records whose names or labels match all globs, sorted by dataset, backbone, loss and seed.

    Raises ConfigError that names the glob nothing matches, when nothing does.
    """
    patterns = {"dataset": dataset, "backbone": backbone, "loss": loss}
    require_match([stored.record for stored in records], patterns)
    return sorted(
        (stored for stored in records if matches(stored.record, **patterns)),
        key=lambda s: (s.record.labels["dataset"], s.record.labels["backbone"], s.record.labels["loss"], s.record.seed),
    )


def require_match(records: Iterable[Record | Condition], patterns: Mapping[str, str]) -> None:
    """Raises ConfigError that names the glob nothing matches, when nothing does."""
    records = list(records)
    if not records or any(matches(record, **patterns) for record in records):
        return
    for part, pattern in patterns.items():
        if not any(matches(record, **{part: pattern}) for record in records):
            known = sorted({record.cell[part]["name"] for record in records})
            raise ConfigError(
                f"no record matches --{part} '{pattern}'",
                hint=did_you_mean(pattern, known) or f"there are records of: {', '.join(known)}",
            )
    raise ConfigError("no record matches all of --dataset, --backbone and --loss", hint="widen one of them")
