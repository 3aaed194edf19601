"""Rules over several records: each cell once, all of a dataset scored on the same pixels, and no result twice."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossbench.cells import canonical_json
from lossbench.errors import RecordError
from lossbench.foreign import read_regular
from lossbench.records import Record
from lossbench.verification.facts import Facts
from lossbench.verification.identities import canonical_loss
from lossbench.verification.one import MOST_JSON
from lossbench.verification.problems import Problem

Mask = NDArray[np.bool_]

#: Members of a protocol that need not change a number. `tuned` says which search chose the settings: one that chose the
#: loss's own trains its cell as is over again, and two that chose the same train one thing twice.
_IDLE = ("eval_every", "deterministic", "sync_batchnorm", "compile", "channels_last", "clip_grad_norm", "tuned")


def check_across(facts: Facts, told: Mask, where: Callable[[str], str]) -> Iterator[Problem]:
    """What is wrong with the records of `told` beside all of `facts`. Where records disagree, those of which most are
    not in `told` count as right, for they were there before; else the most.

    Args:
        told: (n) of the records that are being verified; the others were before.
        where: the file of a path.
    """
    yield from _twice(facts, told)
    yield from _same_pixels(facts, told)
    yield from _same_images(facts, told)
    yield from _copied(facts, told, where)


def groups(values: NDArray[Any]) -> Iterator[NDArray[np.int64]]:
    """Positions of equal values, for each value that occurs more than once."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(values) else np.array([], int)
    for start, size in zip(starts.tolist(), np.diff([*starts.tolist(), len(values)]).tolist(), strict=True):
        if size > 1:
            yield order[start : start + size]


def _twice(facts: Facts, told: Mask) -> Iterator[Problem]:
    for members in groups(facts.rows["id"]):
        paths = [facts.paths[place] for place in members.tolist()]
        for place, path in zip(members.tolist(), paths, strict=True):
            if told[place]:
                other = next(other for other in paths if other != path)
                yield Problem("twice", f"records/{path}", f"the same cell as records/{other}")


def _same_pixels(facts: Facts, told: Mask) -> Iterator[Problem]:
    texts = [json.loads(text) for text in facts.texts]
    for column in ("scored", "trained"):
        used = np.unique(facts.rows[column]).tolist()
        for places in _by(used, lambda place: canonical_json(texts[place][:2])).values():
            versions = _by(
                [place for place in places if texts[place][3] is not None],
                lambda place: canonical_json(texts[place][2:]),
            )
            if len(versions) < 2:
                continue
            rows = [np.flatnonzero(np.isin(facts.rows[column], members)) for members in versions.values()]
            right = max(range(len(rows)), key=lambda number: _weight(rows[number], told))
            reference = texts[[*versions.values()][right][0]]
            for number, members in enumerate(versions.values()):
                if number != right:
                    message = _difference(texts[members[0]], reference, column)
                    message += f" of records/{facts.paths[int(rows[right][0])]}"
                    for row in rows[number].tolist():
                        if told[row]:
                            yield Problem("split", f"records/{facts.paths[row]}", message)


def _difference(found: list[Any], reference: list[Any], word: str) -> str:
    if found[2] != reference[2]:
        return "has other classes than those"
    name, ours, theirs = next(item for item in zip(found[2], found[3], reference[3], strict=True) if item[1] != item[2])
    return f"{word} on {ours} pixels of {name!r} ({found[1]}), not {theirs}, those"


def _weight(rows: NDArray[np.int64], told: Mask) -> tuple[int, int]:
    return int((~told[rows]).sum()), len(rows)


def _same_images(facts: Facts, told: Mask) -> Iterator[Problem]:
    known = np.flatnonzero(facts.rows["images"] != 0)
    scored = facts.rows["scored"][known]
    order = np.argsort(scored, kind="stable")
    for members in np.split(known[order], np.flatnonzero(np.diff(scored[order])) + 1):
        digests = facts.rows["images"][members]
        if len(np.unique(digests)) < 2:
            continue
        before = digests[~told[members]]
        (right, _), *_ = Counter((before if len(before) else digests).tolist()).most_common(1)
        reference = facts.paths[int(members[digests == right][0])]
        for row in members[digests != right].tolist():
            if told[row]:
                message = f"its images, or the true pixels of one, are not those of records/{reference}"
                yield Problem("images", f"records/{facts.paths[row]}", message)


def _by(items: list[int], key: Callable[[int], str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return found


# --- copied results ---


def _copied(facts: Facts, told: Mask, where: Callable[[str], str]) -> Iterator[Problem]:
    for members in groups(facts.rows["counts"]):
        if not told[members].any():
            continue
        same: dict[bytes, dict[str, str]] = defaultdict(dict)  # matrix -> what was run -> path
        # Those that were there before come first: a copy is the later one.
        for row in members[np.argsort(told[members], kind="stable")].tolist():
            path = facts.paths[row]
            record = _again(where(path))
            if record is None or follows_from_truth(record.confusion):
                continue
            known = same[record.confusion.tobytes()]
            essence = canonical_json(what_counts(record.cell))
            if told[row] and known and essence not in known:
                yield Problem(
                    "copied", f"records/{path}", f"the confusion matrix of records/{next(iter(known.values()))}"
                )
            known.setdefault(essence, path)


def _again(path: str) -> Record | None:
    try:
        return Record.from_json(read_regular(path, MOST_JSON))
    except (OSError, RecordError):
        return None


def follows_from_truth(confusion: NDArray[np.int64]) -> bool:
    """Whether a matrix says nothing but what the truth is: nothing scored, all right, or one class predicted for each
    class, as a run that collapsed does. Those of many runs are then equal."""
    return bool(((confusion > 0).sum(axis=1) <= 1).all())


def what_counts(cell: Mapping[str, Any]) -> dict[str, Any]:
    """A cell's identity without what is known to leave every number as it is. Cells for which this is equal may have
    equal matrices: some losses are others at certain parameters (`identities`), and some members of the protocol only
    change a number when they come into play."""
    protocol = {key: value for key, value in cell["protocol"].items() if key not in _IDLE}
    return {**cell, "loss": canonical_loss(cell["loss"]), "protocol": protocol}
