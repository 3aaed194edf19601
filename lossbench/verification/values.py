"""Values of one record that cannot be. Each rule yields (rule, message); none trusts a type."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import lossbench
from lossbench import finescores, metrics
from lossbench.cells import canonical_again, canonical_json
from lossbench.records import Record
from lossbench.signatures import KINDS
from lossbench.verification.labels import label_fits

Found = Iterator[tuple[str, str]]

#: Members of a record's file; of its cell; of its curve, each pair of equal length.
MEMBERS = {
    "schema", "id", "labels", "status", "cell", "class_names", "absent_class_rule", "confusion", "train_pixels",
    "costs", "diagnostics", "curve", "provenance", "notes", "extra_counts",
}  # fmt: skip
_CELL = {"dataset", "backbone", "loss", "seed", "protocol"}
_CURVE = ("step", "loss", "lr", "eval_step", "eval_miou")
#: Seeds that a suite takes are below.
_SEEDS = 2**32
#: A mIoU scored on the way, at the last step, and that of the matrix: kernels that are not deterministic differ less.
_SAME_MIOU = 0.005
#: Clocks differ.
_CLOCKS = timedelta(days=1)
_NUMBERS = {int, float, type(None)}
_HASH = re.compile("[0-9a-f]{12}")


def check_values(record: Record, data: dict[str, Any], now: datetime) -> Found:
    """Every rule on one record.

    Args:
        data: what its file holds, parsed.
        now: aware; nothing was run later than a day after.
    """
    yield from _cell(record)
    yield from _labels(record)
    unknown = sorted(data.keys() - MEMBERS)
    if unknown:
        yield "schema", f"it has members that no record has: {_some(unknown)}"
    if record.absent_class_rule != metrics.ABSENT_CLASS_RULE:
        yield "values", f"absent_class_rule is {record.absent_class_rule!r}, not {metrics.ABSENT_CLASS_RULE!r}"
    names = data["class_names"]
    if not all(isinstance(name, str) and name for name in names) or len(set(record.class_names)) < len(names):
        yield "values", "its classes need names, each its own"
    pixels = data["train_pixels"]
    if not all(type(number) is int and number >= 0 for number in pixels) or not any(pixels):
        yield "values", "train_pixels must be counts (integers >= 0, not all 0)"
    yield from _extent(record)
    yield from (("values", message) for message in finescores.problems(record.extra_counts, record.confusion))
    yield from _costs(record)
    yield from _curve(record)
    yield from _diagnostics(record)
    yield from _provenance(record.provenance, now)


# --- what was run ---


def _cell(record: Record) -> Found:
    cell = record.cell
    if not 0 <= record.seed < _SEEDS:
        yield "cell", f"seed {record.seed} is none of 0 to 2^32 - 1"
    odd = cell.keys() ^ _CELL
    odd |= {f"{kind}.{key}" for kind in KINDS for key in cell[kind].keys() ^ {"name", "params"}}
    if odd:
        yield "cell", f"its cell must have these members and no others: {_some(sorted(odd))}"
    if any(not cell[kind]["name"].isidentifier() for kind in KINDS):
        yield "cell", "a plugin's name is a Python identifier"
    if not _is_canonical(canonical_again(cell["protocol"])):
        yield "cell", "its protocol is spelled in another way than lossbench does, which gives the cell a second id"


@lru_cache(maxsize=1024)
def _is_canonical(protocol: str) -> bool:
    from lossbench.protocol import Protocol

    return canonical_json(Protocol.model_validate_json(protocol).identity()) == protocol


def _labels(record: Record) -> Found:
    if record.labels.keys() != set(KINDS):
        yield "labels", f"its labels are of {_some(sorted(record.labels))}"
    for kind in KINDS:
        part, label = record.cell[kind], record.labels[kind]
        if not label_fits(label, part["name"], part["params"]):
            yield "labels", f"the label {label[:80]!r} is not one of {kind} '{part['name'][:40]}' with its parameters"


def _extent(record: Record) -> Found:
    """A generated dataset says itself how many pixels there are."""
    dataset, split = record.cell["dataset"], record.cell["protocol"]["eval_split"]
    if dataset["name"] != "streets":
        return
    sizes = [dataset["params"].get(key) for key in (f"{split}_images", "height", "width")]
    scored = int(record.confusion.sum())
    if all(type(size) is int for size in sizes) and scored > math.prod(sizes):
        yield "values", f"{scored} pixels were scored, but {' x '.join(map(str, sizes))} are {math.prod(sizes)}"


# --- what it took ---


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _costs(record: Record) -> Found:
    costs, diverged = record.costs, record.status == "diverged"
    for key in ("ms_per_step", "train_s", "eval_s", "peak_memory_mb"):
        value = costs.get(key)
        if key not in costs or (diverged and value in (None, 0)):
            continue  # one that diverged at its first step took no time
        if value is None or not _number(value) or value <= 0:
            yield "values", f"{key} is {_shown(value)}, must be > 0"
    for key in ("extra_forwards", "micro_batch_split"):
        if key in costs and (type(costs[key]) is not int or costs[key] < 0):
            yield "values", f"{key} is {_shown(costs[key])}, must be an integer >= 0"
    phases = costs.get("ms", {})
    if not isinstance(phases, dict) or not all(_number(value) and value >= 0 for value in phases.values()):
        yield "values", "the milliseconds of a phase must be >= 0"


def _curve(record: Record) -> Found:
    curve, iterations = record.curve, record.cell["protocol"]["iterations"]
    if not curve.keys() <= set(_CURVE):
        yield "values", f"its curve has columns that no curve has: {_some(sorted(curve.keys() - set(_CURVE)))}"
    lengths = [len(curve.get(key, ())) for key in _CURVE]
    if len(set(lengths[:3])) > 1 or lengths[3] != lengths[4]:
        yield "values", "the columns of its curve are not of one length"
        return
    for key in ("step", "eval_step"):
        steps = curve.get(key, [])
        rising = all(low < high for low, high in itertools.pairwise(steps))
        if steps and not (rising and steps[0] >= 0 and steps[-1] <= iterations):
            yield "values", f"{key} of its curve must rise within the {iterations} iterations"
    if not all(_number(value) and value >= 0 for value in curve.get("lr", ())):
        yield "values", "a learning rate of its curve is no number >= 0"
    if record.status == "ok" and not all(math.isfinite(value) for value in curve.get("loss", ())):
        yield "values", "its loss was not finite, and it says that all went well"
    mious = curve.get("eval_miou", [])
    if not all(0 <= value <= 1 or math.isnan(value) for value in mious):
        yield "values", "eval_miou of its curve must be a fraction"
    elif mious and curve["eval_step"][-1] == iterations:
        final = metrics.mean_iou(record.confusion)
        if abs(mious[-1] - final) > _SAME_MIOU:
            yield "figures", f"mIoU of its last step is {mious[-1]:.4f}, that of its confusion matrix {final:.4f}"


def _diagnostics(record: Record) -> Found:
    waiting: list[Any] = [record.diagnostics]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict) and all(key.isprintable() for key in value):
            waiting += value.values()
        elif isinstance(value, list):
            kinds = set(map(type, value))  # most are long lists of numbers
            if not kinds <= _NUMBERS:
                waiting += value
            elif float in kinds and not all(x is None or -math.inf < x < math.inf for x in value):
                yield "values", "its diagnostics hold infinity"
                return
        elif not (value is None or _number(value)):
            yield "values", f"its diagnostics hold {_shown(value)}"
            return


# --- where it ran ---


def _provenance(facts: dict[str, Any], now: datetime) -> Found:
    version = facts.get("protocol")
    if type(version) is not int or version < 1:
        yield "values", f"it was made by an engine of PROTOCOL {_shown(version)}"
    elif version > lossbench.PROTOCOL:
        yield "values", f"made by PROTOCOL {version}, newer than this lossbench ({lossbench.PROTOCOL}): upgrade"
    code = facts.get("code")
    if not isinstance(code, dict) or not all(_HASH.fullmatch(str(code.get(kind))) for kind in KINDS):
        yield "values", "it does not say by which code it was made (a hash of each plugin)"
    times: list[datetime] = []
    for key in ("started", "finished"):
        value = facts.get(key)
        if value is None:
            continue
        moment = _moment(value)
        if moment is None:
            yield "values", f"{key} is {_shown(value)}, must be a date and time with its zone"
        elif moment > now + _CLOCKS:
            yield "values", f"{key} {value} is in the future"
        else:
            times.append(moment)
    if len(times) == 2 and times[0] > times[1]:
        yield "values", "it was finished before it was started"


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (TypeError, ValueError, OverflowError):
        return None


def _shown(value: Any) -> str:
    return repr(value)[:40]


def _some(words: list[str]) -> str:
    return ", ".join(word[:40] for word in words[:5])
