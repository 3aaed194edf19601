"""The searches of a suite: for each dataset, backbone and loss the cells of its trials, and the final ones.

A trial is an ordinary cell, but for what it is scored on: its protocol carries the hold-out. Nothing of the search is
in its identity, so searches that share a setting share the trial. A final cell carries the whole search that chose its
setting, so that another search never mixes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lossbench.cells import Cell, Component
from lossbench.protocol import Protocol
from lossbench.tuning.choice import Curve, Trial, score_of
from lossbench.tuning.sampling import settings
from lossbench.tuning.space import Dimension, Scalar, Setting, shown

#: Keys of the protocol that may be searched. None changes how much work a step or a run is, nor what is scored.
TUNABLE = ("lr", "weight_decay", "momentum", "head_lr_factor", "clip_grad_norm", "warmup")

#: The mIoU (a fraction) of a cell's record; None without one.
CellScore = Callable[[Cell], float | None]


@dataclass(frozen=True)
class Tune:
    """A suite's `tune:`, checked. Fields as in `TuneSpec`; dimensions in the order of the file."""

    trials: int
    holdout: float
    holdout_seed: int
    seed: int
    seeds: tuple[int, ...]
    sampler: str
    search: tuple[Dimension, ...]
    losses: Mapping[str, tuple[Dimension, ...]]


@dataclass(frozen=True)
class Search:
    """One loss on one dataset and backbone.

    Attributes:
        loss, protocol: as the suite has them, before any tuning.
        cells: of the suite, that are to be run tuned as well.
    """

    tune: Tune
    dataset: Component
    backbone: Component
    loss: Component
    protocol: Protocol
    cells: tuple[Cell, ...]

    @property
    def own_space(self) -> tuple[Dimension, ...]:
        """Of the loss's parameters."""
        return self.tune.losses.get(self.loss.name, ())

    @property
    def space(self) -> tuple[Dimension, ...]:
        return (*self.tune.search, *self.own_space)

    @property
    def own(self) -> Setting:
        """The setting that the loss has in the suite."""
        protocol: dict[str, Scalar] = {d.name: getattr(self.protocol, d.name) for d in self.tune.search}
        return protocol | {d.name: self.loss.params[d.name] for d in self.own_space}

    @property
    def description(self) -> dict[str, Any]:
        """What a final cell carries: all that the choice is a function of, beside the records."""
        tune = self.tune
        return {
            "trials": tune.trials,
            "holdout": tune.holdout,
            "holdout_seed": tune.holdout_seed,
            "sampler": tune.sampler,
            "seed": tune.seed,
            "seeds": list(tune.seeds),
            "search": {d.name: d.to_json() for d in tune.search},
            "loss": {d.name: d.to_json() for d in self.own_space},
            "from": dict(self.own),
        }

    def trial_cells(self, setting: Setting, note: str = "") -> list[Cell]:
        """The cells of one trial, one for each trial seed."""
        protocol = self._with(
            self.protocol,
            setting,
            holdout=self.tune.holdout,
            holdout_seed=self.tune.holdout_seed,
            eval_split=self.protocol.train_split,
            eval_every=0,  # curves of trials are nobody's business, and cost time
        )
        loss = self._loss(setting)
        return [Cell(self.dataset, self.backbone, loss, seed, protocol, note) for seed in self.tune.seeds]

    def final_cells(self, setting: Setting) -> list[Cell]:
        """The cells of the tuned track: those of the suite with the chosen setting."""
        loss = self._loss(setting)
        return [
            Cell(
                cell.dataset,
                cell.backbone,
                loss,
                cell.seed,
                self._with(cell.protocol, setting, tuned=self.description),
                f"tuned: {shown(setting)}",
            )
            for cell in self.cells
        ]

    def _with(self, protocol: Protocol, setting: Setting, **changes: Any) -> Protocol:
        searched = {d.name: setting[d.name] for d in self.tune.search}
        return Protocol.model_validate({**protocol.model_dump(), **searched, **changes})

    def _loss(self, setting: Setting) -> Component:
        params = {**self.loss.params, **{d.name: setting[d.name] for d in self.own_space}}
        return Component(self.loss.name, params, self.loss.given)

    def curve(self, score: CellScore) -> Curve:
        """The trials known by now, with their scores."""

        def scored(setting: Setting) -> float | None:
            return score_of([score(cell) for cell in self.trial_cells(setting)])

        tried = settings(
            self.space,
            self.own,
            trials=self.tune.trials,
            sampler=self.tune.sampler,
            seed=self.tune.seed,
            score=scored,
        )
        trials = [
            Trial(number, setting, scored(setting), tuple(cell.id for cell in self.trial_cells(setting)))
            for number, setting in enumerate(tried)
        ]
        return Curve(self.loss.label, self.space, self.tune.trials, tuple(trials))


@dataclass(frozen=True)
class Known:
    """The cells of a suite that are known given the records, and how many more will be.

    Attributes:
        cells: those of the suite as it is, then the trials, then the final ones of every search that is complete.
        trials, finals: how many of each are not known yet.
    """

    cells: list[Cell]
    trials: int = 0
    finals: int = 0

    @property
    def ahead(self) -> str:
        """`up to 4 trials and 18 cells of the tuned track follow when the trials before are done`; empty: none."""
        parts = [f"{self.trials} more trials"] * bool(self.trials)
        parts += [f"{self.finals} cells of the tuned track"] * bool(self.finals)
        return f"{' and '.join(parts)} follow when the trials are done" if parts else ""


def known_cells(cells: Sequence[Cell], searches: Sequence[Search], score: CellScore) -> Known:
    """A pure function of the suite and the records: at whatever moment a run was stopped, the next goes on alike."""
    found = {cell.id: cell for cell in cells}
    finals: list[Cell] = []
    trials_ahead = finals_ahead = 0
    for search in searches:
        curve = search.curve(score)
        for trial in curve.trials:
            note = f"trial {trial.number + 1}/{curve.budget}: {shown(trial.setting)}"
            for cell in search.trial_cells(trial.setting, note):
                found.setdefault(cell.id, cell)
        trials_ahead += (curve.budget - len(curve.trials)) * len(search.tune.seeds)
        if curve.chosen is None:
            finals_ahead += len(search.cells)
        else:
            finals += search.final_cells(curve.chosen.setting)
    for cell in finals:
        found.setdefault(cell.id, cell)
    return Known(list(found.values()), trials_ahead, finals_ahead)
