"""What a search comes to: the chosen setting, and the curve of what more trials would have found. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

from lossbench.tuning.space import Dimension, Setting, distance

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Trial:
    """A setting and its mean hold-out mIoU (a fraction) over the trial seeds; None where a record is missing. A run
    that scored no pixel counts as 0, a diverged one as what it scored."""

    number: int
    setting: Setting
    score: float | None
    ids: tuple[str, ...] = ()
    diverged: bool = False


def choose(space: Sequence[Dimension], trials: Sequence[Trial]) -> Trial | None:
    """The trial of the best score; of equals the one nearest to the first, which is the loss's own setting, then the
    earliest. None unless every trial has a score: a choice from fewer would be one of another budget."""
    if not trials or any(trial.score is None for trial in trials):
        return None
    own = trials[0].setting
    return max(trials, key=lambda trial: (trial.score or 0.0, -distance(space, trial.setting, own), -trial.number))


def best_so_far(scores: Sequence[float]) -> list[float]:
    """The best of the first 1, 2, ... scores, in the order of the trials."""
    return list(accumulate(scores, max))


def expected_best(scores: Sequence[float]) -> NDArray[np.float64]:
    """Expected best validation score of n = 1 ... N trials, from the scores of N (Dodge et al. 2019, "Show Your Work:
    Improved Reporting of Experimental Results", eq. 1 and 2).

    With V* the maximum of n draws, with replacement, from the empirical distribution of the scores,
    P(V* <= v) = P(V <= v)^n, and E[V*] = sum over the distinct v of v (P(V <= v)^n - P(V < v)^n). It supposes that the
    settings were drawn independently; a quasi-random sequence covers the space more evenly, so its own best of n tends
    to lie above.
    """
    import numpy as np  # a suite is read without it

    values, counts = np.unique(np.asarray(scores, dtype=np.float64), return_counts=True)
    total = counts.sum()
    upto = np.cumsum(counts) / max(1, total)
    below = upto - counts / max(1, total)
    numbers = np.arange(1, total + 1)[:, None]
    expected: NDArray[np.float64] = (values * (upto**numbers - below**numbers)).sum(axis=1)
    return expected


@dataclass(frozen=True)
class Curve:
    """The trials of one loss on one dataset and backbone.

    Attributes:
        budget: how many trials the search has; fewer of `trials` are known while a sequential search goes on.
        space: the searched dimensions, those of the protocol first.
    """

    loss: str
    space: tuple[Dimension, ...]
    budget: int
    trials: tuple[Trial, ...]

    @property
    def complete(self) -> bool:
        return len(self.trials) == self.budget and all(trial.score is not None for trial in self.trials)

    @cached_property
    def chosen(self) -> Trial | None:
        return choose(self.space, self.trials) if self.complete else None

    @property
    def scores(self) -> list[float]:
        """Of the trials that have one, in order, in percent."""
        return [100 * trial.score for trial in self.trials if trial.score is not None]

    @property
    def edges(self) -> list[str]:
        """`lr at the upper edge`, for each dimension in which the choice lies at an edge of the space."""
        return [] if self.chosen is None else edges(self.space, self.chosen.setting, self.budget)


def edges(space: Sequence[Dimension], setting: Setting, trials: int) -> list[str]:
    found = ((dimension.name, dimension.edge(setting[dimension.name], trials)) for dimension in space)
    return [f"{name} at the {end} edge" for name, end in found if end]


def score_of(scores: Sequence[float | None]) -> float | None:
    """A trial's score from those of its seeds: their mean; None while one is missing. NaN counts as 0."""
    known = [0.0 if math.isnan(value) else value for value in scores if value is not None]
    return sum(known) / len(known) if len(known) == len(scores) and known else None
