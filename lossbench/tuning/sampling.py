"""Which settings a search tries: a function of the space, the seed and, for a sequential sampler, of the scores so far.

The first is the loss's own setting, so that tuning never ends with less than was known before. The others come from a
Halton sequence (Halton 1960, "On the efficiency of certain quasi-random sequences of points"), shifted modulo 1 by the
seed (Cranley and Patterson 1976). Its n-th point does not depend on how many follow, any number of points covers a
range evenly, and the learning rate is its first dimension for every loss: all losses are tried at the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice

from lossbench.errors import SetupError
from lossbench.tuning.space import Dimension, Setting, same

#: Points of the underlying sequence looked at for one that is new; a space of few settings repeats them.
_ATTEMPTS = 10_000
#: What is known of a setting: a score (higher is better), or None: not recorded yet.
Score = Callable[[Setting], float | None]
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
SAMPLERS = ("halton", "random", "tpe")


def settings(
    space: Sequence[Dimension], own: Setting, *, trials: int, sampler: str, seed: int, score: Score
) -> list[Setting]:
    """The settings of the trials, in order, no two the same: all of them, or for `tpe` those known by now.

    `tpe` takes the first half from the Halton sequence and each further one from the scores of all before, so it knows
    one more whenever all of them are scored. Fewer than `trials` come of a space that has no more.

    Raises SetupError when `tpe` lacks Optuna.
    """
    points = _distinct(space, own, sampler, seed)
    if sampler != "tpe":
        return [own, *islice(points, trials - 1)]
    chosen = [own, *islice(points, max(trials // 2, min(trials, 2)) - 1)]
    while len(chosen) < trials:
        scores = [score(setting) for setting in chosen]
        known = [value for value in scores if value is not None]
        if len(known) < len(scores):
            break
        suggested = _tpe(space, chosen, known, seed)
        if suggested is None:  # it keeps to what was tried: go on with the sequence
            suggested = next((point for point in points if not any(same(point, old) for old in chosen)), None)
        if suggested is None:
            break
        chosen.append(suggested)
    return chosen


def _distinct(space: Sequence[Dimension], own: Setting, sampler: str, seed: int) -> Iterator[Setting]:
    """Settings of a sequence, each once, without `own`; ends when none of many is new."""
    units = _random(space, seed) if sampler == "random" else halton(space, seed)
    seen = [own]
    misses = 0
    for unit in units:
        setting = {dimension.name: dimension.at(u) for dimension, u in zip(space, unit, strict=True)}
        if any(same(setting, old) for old in seen):
            misses += 1
            if misses >= _ATTEMPTS:
                return
            continue
        misses = 0
        seen.append(setting)
        yield setting


def halton(space: Sequence[Dimension], seed: int) -> Iterator[list[float]]:
    """Points of the unit cube. The shift of a dimension depends on the seed and its name alone."""
    from lossbench.data.randomness import generator  # numpy, which a suite without `tune:` does without

    shifts = [generator("tune", seed, dimension.name).random() for dimension in space]
    for index in count(1):
        yield [(radical_inverse(index, base) + shift) % 1.0 for base, shift in zip(PRIMES, shifts, strict=False)]


def radical_inverse(index: int, base: int) -> float:
    """The digits of `index` in `base`, mirrored at the point: van der Corput's sequence."""
    value, scale = 0.0, 1.0
    while index:
        scale /= base
        index, digit = divmod(index, base)
        value += digit * scale
    return value


def _random(space: Sequence[Dimension], seed: int) -> Iterator[list[float]]:
    from lossbench.data.randomness import generator

    streams = [generator("tune random", seed, dimension.name) for dimension in space]
    while True:
        yield [stream.random() for stream in streams]


def _tpe(space: Sequence[Dimension], tried: Sequence[Setting], scores: Sequence[float], seed: int) -> Setting | None:
    """What a tree-structured Parzen estimator (Bergstra et al. 2011) suggests next; None when that is no news. A
    function of its arguments: nothing is remembered."""
    try:
        import optuna
    except ImportError:
        raise SetupError("sampler: tpe needs Optuna", hint='pip install "lossbench[tune]"') from None
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    from lossbench.data.randomness import generator

    def distribution(dimension: Dimension) -> BaseDistribution:
        if dimension.values:
            return CategoricalDistribution(dimension.values)
        if dimension.whole:
            return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
        return FloatDistribution(dimension.low, dimension.high, log=dimension.log)

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        distributions = {dimension.name: distribution(dimension) for dimension in space}
        for attempt in range(10):
            derived = int(generator("tune tpe", seed, len(tried), attempt).integers(2**32))
            sampler = optuna.samplers.TPESampler(seed=derived, n_startup_trials=1)
            study = optuna.create_study(direction="maximize", sampler=sampler)
            for setting, value in zip(tried, scores, strict=True):
                # The loss's own setting may lie outside of the space: then it says nothing about the inside.
                if all(d._contains(d.to_internal_repr(setting[name])) for name, d in distributions.items()):
                    study.add_trial(
                        optuna.trial.create_trial(params=dict(setting), distributions=distributions, value=value)
                    )
            raw = study.ask(distributions).params
            found = {d.name: raw[d.name] if d.values or d.whole else _rounded(d, raw[d.name]) for d in space}
            if not any(same(found, old) for old in tried):
                return found
    finally:
        optuna.logging.set_verbosity(verbosity)
    return None


def _rounded(dimension: Dimension, value: float) -> float:
    place = dimension.place(value)
    rounded = dimension.at(place if place is not None else 0.0)
    assert isinstance(rounded, float)
    return rounded
