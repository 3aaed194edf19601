"""What the page of a tuned leaderboard shows of the searches behind it: every trial, what was chosen, and what fewer
trials would have found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lossbench.errors import LossbenchError
from lossbench.runtable import RunTable
from lossbench.site.figuredata import short, shorts
from lossbench.site.model import Board
from lossbench.tuning.choice import Curve, Trial, expected_best
from lossbench.tuning.curves import of_runs
from lossbench.tuning.space import Scalar, shown, text
from lossbench.tuning.tracks import TUNED
from lossbench.views.tuning import milestones


@dataclass(frozen=True)
class TrialCell:
    """Hold-out mIoU in percent (None: no record), and the loss's own parameters where they were searched, too."""

    score: float | None
    setting: str
    chosen: bool
    own: bool
    diverged: bool


@dataclass(frozen=True)
class SearchLine:
    """One row of the leaderboard: hold-out mIoU in percent as is and of the choice, and the expected best of so many
    random trials as `Searches.numbers` says (None while trials are missing)."""

    curve: Curve
    own: float | None
    best: float | None
    expected: list[float | None]
    trials: list[TrialCell | None]


@dataclass(frozen=True)
class Searches:
    """Of a tuned leaderboard, a line for each of its rows.

    Attributes:
        name: of the setting that trials are ordered by: the learning rate, where it is searched.
        values: of that setting, a column each, in text.
        numbers: of trials, for `SearchLine.expected`.
        problem: why there is nothing to show; else empty.
    """

    name: str = ""
    values: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    lines: tuple[SearchLine, ...] = ()
    problem: str = ""

    @property
    def own_parameters(self) -> bool:
        """Whether a loss has searched more than one setting: its trials then lie on no line."""
        return any(len(line.curve.space) > 1 for line in self.lines)


def searches(board: Board, table: RunTable) -> Searches | None:
    """None for a leaderboard of another track."""
    if board.block.track != TUNED:
        return None
    try:
        curves = of_runs(table, [row.runs.ids[0] for row in board.block.rows])
    except LossbenchError as error:  # e.g. the sampler of these trials is not installed
        return Searches(problem=error.message)
    names = [dimension.name for dimension in curves[0].space]
    name = "lr" if "lr" in names else names[0]
    placed = [_placed(curve, name) for curve in curves]
    columns = sorted({column for found in placed for column in found})
    numbers = milestones(max(curve.budget for curve in curves))
    lines = tuple(
        _line(curve, name, [found.get(column) for column in columns], numbers)
        for curve, found in zip(curves, placed, strict=True)
    )
    values = {column: text(trial.setting[name]) for found in placed for column, trial in found.items()}
    return Searches(name, tuple(values[column] for column in columns), tuple(numbers), lines)


def _placed(curve: Curve, name: str) -> dict[tuple[float, str, int], Trial]:
    """Trials by value of the setting; those of one value are told apart by their number among them."""
    found: dict[tuple[float, str, int], Trial] = {}
    for trial in curve.trials:
        value = trial.setting[name]
        key = (float(value), "") if _is_number(value) else (0.0, text(value))
        nth = sum(other[:2] == key for other in found)
        found[*key, nth] = trial
    return found


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _line(curve: Curve, name: str, trials: Sequence[Trial | None], numbers: Sequence[int]) -> SearchLine:
    expected = expected_best(curve.scores).tolist() if curve.complete else []
    return SearchLine(
        curve,
        _percent(curve.trials[0]),
        _percent(curve.chosen),
        [expected[number - 1] if number <= len(expected) else None for number in numbers],
        [None if trial is None else _cell(curve, name, trial) for trial in trials],
    )


def _percent(trial: Trial | None) -> float | None:
    return None if trial is None or trial.score is None else 100 * trial.score


def _cell(curve: Curve, name: str, trial: Trial) -> TrialCell:
    rest = shown({key: value for key, value in trial.setting.items() if key != name})
    chosen = curve.chosen is not None and curve.chosen.number == trial.number
    return TrialCell(_percent(trial), rest, chosen, trial.number == 0, trial.diverged)


def figure(found: Searches) -> dict[str, Any]:
    """The numbers of both figures, a curve for each row; static/figures.js draws them."""
    dimensions = [d for line in found.lines for d in line.curve.space if d.name == found.name]
    return {
        "name": found.name,
        "log": any(dimension.log for dimension in dimensions),
        "curves": [_curve(line.curve, found.name) for line in found.lines],
        "expected": [shorts(expected_best(line.curve.scores)) if line.curve.complete else [] for line in found.lines],
    }


def _curve(curve: Curve, name: str) -> dict[str, Any]:
    """Trials that have a score, by the setting; `own` and `chosen`: places of the first trial and of the choice."""
    trials = [trial for trial in _ordered(curve, name) if trial.score is not None]
    numbers = [trial.number for trial in trials]
    chosen = curve.chosen
    values = [trial.setting[name] for trial in trials]
    return {
        "x": [value if _is_number(value) else text(value) for value in values],
        "y": [short(_percent(trial)) for trial in trials],
        "words": [shown(trial.setting) + (", diverged" if trial.diverged else "") for trial in trials],
        "own": numbers.index(0) if 0 in numbers else None,
        "chosen": None if chosen is None else numbers.index(chosen.number),
        "line": len(curve.space) == 1,
    }


def _ordered(curve: Curve, name: str) -> list[Trial]:
    placed = _placed(curve, name)
    return [placed[key] for key in sorted(placed)]
