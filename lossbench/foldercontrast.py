"""Two folders of records against each other, cell by cell. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np

from lossbench.cells import canonical_json, short_hash
from lossbench.comparison import labels, variants
from lossbench.leaderboard import parts
from lossbench.runs import Part
from lossbench.runtable import Condition, RunTable, hex_ids
from lossbench.statistics import Paired, paired_difference

#: Among what differs in a pair, beside its plugins' code.
PROTOCOL = "PROTOCOL"


@dataclass(frozen=True)
class Pair:
    """One cell that both folders have.

    Attributes:
        title, loss: of the block and the row that a leaderboard would show it in; `setting`: of the cell without its
            seed, a hash.
        ours, theirs: mIoU in percent; NaN of a run that scored nothing.
        equal: TP, FP and FN of every class are.
        code: which of its plugins' code differs, and PROTOCOL if the engine's does.
    """

    id: str
    title: str
    loss: str
    seed: int
    ours: float
    theirs: float
    equal: bool
    code: tuple[str, ...]
    setting: str

    @property
    def apart(self) -> float:
        """Ours minus theirs, NaN where one scored nothing; 0 where both did."""
        return 0.0 if self.equal else self.ours - self.theirs


@dataclass(frozen=True)
class Alone:
    """A cell that one folder alone has."""

    id: str
    title: str
    loss: str
    seed: int


@dataclass
class FolderContrast:
    """Two folders: the cells that both have, and those that one alone has."""

    pairs: list[Pair]
    only_ours: list[Alone]
    only_theirs: list[Alone]
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[tuple[str, str, list[Pair], Paired | None]]:
        """Per cell without its seed: title, label, its pairs, and ours minus theirs over the seeds that both scored."""
        groups: dict[tuple[str, str, str], list[Pair]] = defaultdict(list)
        for pair in self.pairs:
            groups[pair.title, pair.loss, pair.setting].append(pair)
        return [
            (title, loss, pairs, paired_difference(_by_seed(pairs, "ours"), _by_seed(pairs, "theirs")))
            for (title, loss, _), pairs in sorted(groups.items())
        ]


def _by_seed(pairs: Sequence[Pair], which: str) -> Mapping[int, float]:
    return {pair.seed: getattr(pair, which) for pair in pairs}


def compare_tables(ours: RunTable, theirs: RunTable) -> FolderContrast:
    """Records of the same cells (equal ids) in two tables."""
    notes: list[str] = []
    here, there = _newest(ours, "first", notes), _newest(theirs, "second", notes)
    names = [_names(ours, here), _names(theirs, there)]
    pairs, unlike, nothing = [], 0, [0, 0]
    protocols: Counter[tuple[str, str]] = Counter()
    for name in here.keys() & there.keys():
        a, b = here[name], there[name]
        one, other = ours.conditions[ours.condition[a]], theirs.conditions[theirs.condition[b]]
        if not _comparable(one, other):
            unlike += 1
            continue
        for place, condition in enumerate((one, other)):
            nothing[place] += not condition.scored
        if one.provenance.get("protocol") != other.provenance.get("protocol"):
            protocols[str(one.provenance.get("protocol")), str(other.provenance.get("protocol"))] += 1
        title, loss = names[0][name]
        counts = [table.counts_of(np.array([row]))[0] for table, row in ((ours, a), (theirs, b))]
        pairs.append(
            Pair(
                id=name,
                title=title,
                loss=loss,
                seed=int(ours.seeds[a]),
                ours=100 * float(ours.scores[a, 0]) if one.scored else math.nan,
                theirs=100 * float(theirs.scores[b, 0]) if other.scored else math.nan,
                equal=bool(np.array_equal(*counts)),
                code=_code(one, other),
                setting=short_hash(one.cell),
            )
        )
    pairs.sort(key=lambda pair: (pair.title, pair.loss, pair.setting, pair.seed))
    if unlike:
        notes.append(f"{_cells(unlike)} scored on other pixels, classes or rules in the two: not compared.")
    for number, which in zip(nothing, ("first", "second"), strict=True):
        if number:
            notes.append(f"{_cells(number)} scored on no pixel at all in the {which}: left out of the differences.")
    notes += [
        f"{_cells(number)} made under PROTOCOL {one} of the engine in the first and {other} in the second."
        for (one, other), number in sorted(protocols.items())
    ]
    only = [
        [
            Alone(name, *given[name], int(table.seeds[row]))
            for name, row in sorted(rows.items(), key=lambda item: (*given[item[0]], int(table.seeds[item[1]])))
            if name not in others
        ]
        for table, rows, others, given in ((ours, here, there, names[0]), (theirs, there, here, names[1]))
    ]
    return FolderContrast(pairs, only[0], only[1], notes)


def _cells(number: int) -> str:
    return f"{number} cell{'s were' if number != 1 else ' was'}"


def _newest(table: RunTable, which: str, notes: list[str]) -> dict[str, int]:
    """The row of each id. A cell that was replaced several times lies there as name.json, name.1.json, name.2.json ...:
    the last is the newest. Of others with one id the first counts, as everywhere."""
    found: dict[str, tuple[int, int]] = {}
    several = set()
    for row, name in enumerate(hex_ids(table.ids)):
        number = re.search(r"\.(\d+)$", PurePath(table.paths[row]).stem)
        age = int(number[1]) if number else 0
        if name in found:
            several.add(name)
        if name not in found or age > found[name][0]:
            found[name] = age, row
    if several:
        notes.append(
            f"{len(several)} cell{'s lie' if len(several) != 1 else ' lies'} several times in the {which} folder: "
            "the newest is compared."
        )
    return {name: row for name, (_, row) in found.items()}


def _names(table: RunTable, rows: Mapping[str, int]) -> dict[str, tuple[str, str]]:
    """Title and loss of each id, as a leaderboard has them: another protocol is another block."""
    kept = table.take(np.array(sorted(rows.values()), dtype=np.int64))
    places: dict[str, list[Part]] = defaultdict(list)
    for part in parts(kept):
        places[canonical_json([part.condition.cell["dataset"], part.condition.cell["backbone"]])].append(part)
    datasets, backbones = labels(places, "dataset"), labels(places, "backbone")
    ids = hex_ids(kept.ids)
    found = {}
    for key, members in places.items():
        for variant, comparable in variants(members, "ce"):
            groups: dict[str, list[Part]] = defaultdict(list)
            for part in comparable:
                groups[canonical_json(part.condition.cell["loss"])].append(part)
            title = f"{datasets[key]} / {backbones[key]}" + (f" ({variant})" if variant else "")
            for loss, label in labels(groups, "loss").items():
                for part in groups[loss]:
                    found.update({ids[row]: (title, label) for row in part.rows.tolist()})
    return found


def _comparable(one: Condition, other: Condition) -> bool:
    """Whether both were scored on the same classes, rule and pixels, as far as they scored anything."""
    if (one.class_names, one.absent_class_rule) != (other.class_names, other.absent_class_rule):
        return False
    return one.truth == other.truth or not (one.scored and other.scored)


def _code(one: Condition, other: Condition) -> tuple[str, ...]:
    codes = [condition.provenance.get("code") or {} for condition in (one, other)]
    differ = [part for part in codes[0] if codes[0][part] != codes[1].get(part)]
    if one.provenance.get("protocol") != other.provenance.get("protocol"):
        differ.append(PROTOCOL)
    return tuple(differ)
