"""The suite of one cell: what repeats a single record."""

from __future__ import annotations

from typing import Any

from lossbench.errors import ConfigError
from lossbench.records import Record
from lossbench.signatures import KINDS

_HEAD = """\
# {labels}, seed {seed}: the cell {id}.
# lossbench run FILE{threads} --results again && lossbench merge again --dry-run
"""


def threads_option(record: Record) -> str:
    """` --threads N`, for `lossbench run`, with the CPU threads of the record's run: with another number sums are
    rounded otherwise, and training magnifies that. Empty where the record does not say."""
    hardware = record.provenance.get("hardware")
    threads = hardware.get("threads") if isinstance(hardware, dict) else None
    return f" --threads {threads}" if type(threads) is int and threads > 0 else ""


def suite_of(record: Record) -> str:
    """YAML of a suite whose only cell is the record's, every parameter spelled out. Raises ConfigError when a parameter
    was a file, of which a record holds only the hash."""
    import yaml

    cell = record.cell
    for kind in KINDS:
        held = _file_of(cell[kind]["params"])
        if held is not None:
            raise ConfigError(
                f"'{held}' of {kind} '{cell[kind]['name']}' was a file, and the record holds only its hash",
                hint="take the suite that it was made with: `lossbench show` prints the command",
            )
    data: dict[str, Any] = {
        f"{kind}{'es' if kind == 'loss' else 's'}": [{"name": cell[kind]["name"], **cell[kind]["params"]}]
        for kind in ("dataset", "backbone", "loss")
    }
    data |= {"seeds": [record.seed], "protocol": cell["protocol"]}
    labels = " / ".join(record.labels[kind] for kind in ("dataset", "backbone", "loss"))
    plain = "".join(letter if letter.isprintable() else "?" for letter in labels)
    head = _HEAD.format(labels=plain, seed=record.seed, id=record.id, threads=threads_option(record))
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return head + text


def _file_of(params: Any) -> str | None:
    """The name of a parameter that was a file."""
    items = params.items() if isinstance(params, dict) else enumerate(params) if isinstance(params, list) else ()
    for name, value in items:
        if isinstance(value, str) and value.startswith("sha256:"):
            return str(name)
        inner = _file_of(value)
        if inner is not None:
            return inner
    return None
