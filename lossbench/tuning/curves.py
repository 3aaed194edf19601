"""The curves of all searches, of a suite or of the records' tuned runs, grouped as the leaderboard's blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossbench.cells import canonical_json, identity_hash
from lossbench.runtable import SCORES, RunTable
from lossbench.selection import fits
from lossbench.tuning.board import as_is_cell, budget, space_of
from lossbench.tuning.choice import Curve, Trial, score_of
from lossbench.tuning.sampling import settings
from lossbench.tuning.space import Setting
from lossbench.tuning.tracks import TUNED, track_of

if TYPE_CHECKING:
    from lossbench.cells import Cell
    from lossbench.tuning.search import Search

#: The mIoU (a fraction) of the record with an id; None without one.
IdScore = Callable[[str], float | None]


@dataclass(frozen=True)
class Group:
    """Searches of one dataset and backbone with one budget.

    Attributes:
        dataset, backbone: labels.
        budget: what they share, in words.
        names: of the plugins behind each loss, in the order of `curves`.
    """

    dataset: str
    backbone: str
    budget: str
    curves: tuple[Curve, ...]
    names: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{self.dataset} / {self.backbone}, tuning"

    @property
    def first(self) -> str:
        """The dimension that curves are drawn over: the learning rate, where it is searched."""
        names = [dimension.name for dimension in self.curves[0].space]
        return "lr" if "lr" in names else names[0]

    def ordered(self, reference: str) -> Group:
        """With the reference first, then by name."""
        order = sorted(range(len(self.names)), key=lambda i: (self.names[i] != reference, self.curves[i].loss))
        return replace(self, curves=tuple(self.curves[i] for i in order), names=tuple(self.names[i] for i in order))


def scores_by_id(table: RunTable) -> tuple[IdScore, frozenset[str]]:
    """The mIoU of the records of a table by id, and the ids of the diverged."""
    rows = {number: row for row, number in enumerate(table.ids.tolist())}
    column = table.scores[:, SCORES.index("miou")]
    bad = [condition.status == "diverged" for condition in table.conditions]
    diverged = np.flatnonzero(np.array(bad, dtype=bool)[table.condition]).tolist() if len(table) else []

    def score(cell_id: str) -> float | None:
        row = rows.get(int(cell_id, 16))
        return None if row is None else float(column[row])

    return score, frozenset(f"{int(table.ids[row]):016x}" for row in diverged)


def of_suite(searches: Iterable[Search], table: RunTable) -> list[Group]:
    """The curves of a suite's searches, as far as there are records."""
    score, diverged = scores_by_id(table)

    def of_cell(cell: Cell) -> float | None:
        return score(cell.id)

    found = [
        (s.dataset.label, s.backbone.label, budget(s.description), s.loss.name, s.curve(of_cell)) for s in searches
    ]
    return _grouped(found, diverged)


def of_records(table: RunTable) -> list[Group]:
    """The curves of the searches behind the tuned runs of a table: a run's record holds the whole search, so its trials
    are known without the suite."""
    score, diverged = scores_by_id(table)
    found: dict[str, tuple[str, str, str, str, Curve]] = {}
    for condition in table.conditions:
        cell = condition.cell
        if track_of(cell["protocol"]) != TUNED:
            continue
        before, tuned = as_is_cell(cell), cell["protocol"]["tuned"]
        key = canonical_json([before, tuned])
        if key not in found:
            labels = condition.labels
            curve = _recorded(before, tuned, labels["loss"], score)
            found[key] = (labels["dataset"], labels["backbone"], budget(tuned), cell["loss"]["name"], curve)
    return _grouped(found.values(), diverged)


def of_runs(table: RunTable, ids: Iterable[str]) -> list[Curve]:
    """The curve of the search behind each of these tuned runs of a table, in their order."""
    score, diverged = scores_by_id(table)
    rows = {number: row for row, number in enumerate(table.ids.tolist())}
    curves = []
    for run in ids:
        condition = table.conditions[int(table.condition[rows[int(run, 16)]])]
        tuned = condition.cell["protocol"]["tuned"]
        curve = _recorded(as_is_cell(condition.cell), tuned, condition.labels["loss"], score)
        curves.append(_marked(curve, diverged))
    return curves


def trial_cells(before: Mapping[str, Any], tuned: Mapping[str, Any], setting: Setting) -> list[dict[str, Any]]:
    """The identities of a trial's cells, one for each trial seed; the same as `Search.trial_cells` has.

    Args:
        before: the identity of the loss's cell as is (see `as_is_cell`).
        tuned: the description of the search.
    """
    protocol = {
        **before["protocol"],
        **{name: setting[name] for name in tuned["search"]},
        "eval_split": before["protocol"]["train_split"],
        "eval_every": 0,
        "holdout": tuned["holdout"],
        **({"holdout_seed": tuned["holdout_seed"]} if tuned["holdout_seed"] else {}),
    }
    params = {**before["loss"]["params"], **{name: setting[name] for name in tuned["loss"]}}
    loss = {**before["loss"], "params": params}
    return [{**before, "loss": loss, "protocol": protocol, "seed": seed} for seed in tuned["seeds"]]


def _recorded(before: Mapping[str, Any], tuned: Mapping[str, Any], label: str, score: IdScore) -> Curve:
    def ids(setting: Setting) -> tuple[str, ...]:
        return tuple(identity_hash(cell) for cell in trial_cells(before, tuned, setting))

    def scored(setting: Setting) -> float | None:
        return score_of([score(cell_id) for cell_id in ids(setting)])

    space, trials = space_of(tuned), tuned["trials"]
    tried = settings(space, tuned["from"], trials=trials, sampler=tuned["sampler"], seed=tuned["seed"], score=scored)
    return Curve(
        label, space, trials, tuple(Trial(n, setting, scored(setting), ids(setting)) for n, setting in enumerate(tried))
    )


def _grouped(found: Iterable[tuple[str, str, str, str, Curve]], diverged: frozenset[str]) -> list[Group]:
    groups: dict[tuple[str, str, str], list[tuple[str, Curve]]] = {}
    for dataset, backbone, words, name, curve in found:
        groups.setdefault((dataset, backbone, words), []).append((name, _marked(curve, diverged)))
    return [
        Group(*key, tuple(curve for _, curve in members), tuple(name for name, _ in members))
        for key, members in groups.items()
    ]


def _marked(curve: Curve, diverged: frozenset[str]) -> Curve:
    """With the trials marked that have a diverged run."""
    trials = tuple(replace(trial, diverged=bool(diverged & set(trial.ids))) for trial in curve.trials)
    return replace(curve, trials=trials)


def chosen_groups(groups: Iterable[Group], *, dataset: str = "*", backbone: str = "*", loss: str = "*") -> list[Group]:
    """Those whose labels fit the globs; a loss's, or its plugin's name without parameters."""

    def fit(label: str, pattern: str) -> bool:
        return fits(label, pattern) or fits(label.partition("(")[0], pattern)

    found = []
    for group in groups:
        places = [i for i, name in enumerate(group.names) if fits(name, loss) or fit(group.curves[i].loss, loss)]
        if places and fit(group.dataset, dataset) and fit(group.backbone, backbone):
            curves, names = tuple(group.curves[i] for i in places), tuple(group.names[i] for i in places)
            found.append(replace(group, curves=curves, names=names))
    return found


def by_first(group: Group, curve: Curve) -> list[Trial]:
    """The trials by the dimension that curves are drawn over; where that is no number, in order."""

    def key(trial: Trial) -> tuple[float, int]:
        value = trial.setting[group.first]
        return (float(value) if isinstance(value, int | float) else math.inf), trial.number

    return sorted(curve.trials, key=key)
