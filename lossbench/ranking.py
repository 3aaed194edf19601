"""Losses across blocks: ranks, and what can be said of them over several datasets and backbones. Pure; no files.

Demšar (2006, "Statistical comparisons of classifiers over multiple data sets") for ranks; Agarwal et al. (2021, "Deep
reinforcement learning at the edge of the statistical precipice") for the interquartile mean, the performance profile
and the probability of improvement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lossbench.cells import canonical_json
from lossbench.errors import ConfigError
from lossbench.significance import ALPHA
from lossbench.standings import Block, Row
from lossbench.statistics import CONFIDENCE

Floats = NDArray[np.float64]
#: Below this a critical difference says more of the number of blocks than of the losses.
FEWEST_BLOCKS = 5
#: Fewest and most resamples; with many seeds fewer do.
_RESAMPLES = (200, 5000)
_SEEDS_DRAWN = 400_000
_SEED = 20_221_125


@dataclass(frozen=True)
class Range:
    """A figure with its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass
class Ranking:
    """L losses over B blocks, best mean rank first.

    Attributes:
        blocks: titles.
        losses: labels.
        ranks: (B, L), 1 is best, ties at their mean, by mean mIoU over seeds.
        relative: per block (S, L) mIoU in percent of the reference's mean there, by seed.
        iqm: interquartile mean of `relative` over blocks and seeds.
        improvement: chance that a run of the loss beats one of the reference, mean over blocks; None for itself.
        friedman: p that all losses rank alike; None with fewer than 2 blocks or 3 losses.
        critical: Nemenyi's critical difference of mean ranks at 0.05; None with fewer than FEWEST_BLOCKS blocks.
        notes: what was left out, and why.
    """

    blocks: list[str]
    losses: list[str]
    reference: str
    ranks: Floats
    relative: list[Floats]
    iqm: list[Range]
    improvement: list[Range | None]
    friedman: float | None
    critical: float | None
    notes: list[str] = field(default_factory=list)

    @property
    def mean_ranks(self) -> Floats:
        mean: Floats = self.ranks.mean(axis=0)
        return mean

    @property
    def cliques(self) -> list[tuple[int, int]]:
        """Runs of losses, first and last, whose mean ranks lie within the critical difference; the longest only."""
        if self.critical is None:
            return []
        ranks, found = self.mean_ranks, list[tuple[int, int]]()
        for first in range(len(ranks)):
            last = int(np.flatnonzero(ranks - ranks[first] < self.critical)[-1])
            if last > first and (not found or last > found[-1][1]):
                found.append((first, last))
        return found


def rank(blocks: Sequence[Block]) -> Ranking:
    """Rank the losses that all blocks have.

    Of several protocols of one dataset and backbone the main one counts; a block without the reference, or without a
    seed that all its losses share, is left out. Notes name all that is.

    Raises ConfigError where nothing is left to rank, and where blocks treat absent classes differently: their means
    are not of one kind.
    """
    notes: list[str] = []
    main = _main_blocks(blocks, notes)
    _one_rule(main)
    shared, labels = _shared_losses(main, notes)
    references = {_key(row) for block in main for row in _rows(block) if row.is_reference}
    reference = next((key for key in shared if key in references), None)
    if reference is None:
        raise ConfigError("the reference has no runs in all of these blocks", hint="choose another one with --versus")
    scores = {block.title: _by_seed(block, shared) for block in main}
    titles = [title for title, found in scores.items() if found is not None]
    notes += [f"Left out, its losses share no seed: {title}." for title, found in scores.items() if found is None]
    values = [found for found in scores.values() if found is not None]
    if not values:
        raise ConfigError("no block has a seed that all losses share", hint="run the missing seeds")
    ours = shared.index(reference)
    means = np.stack([found.mean(axis=0) for found in values])
    ranks = _ranks(means)
    order = np.lexsort((np.array([labels[key] for key in shared]), ranks.mean(axis=0)))
    relative = [100 * found / found[:, ours].mean() for found in values]
    iqm, improvement = _resampled(relative, ours)
    return Ranking(
        blocks=titles,
        losses=[labels[shared[place]] for place in order],
        reference=labels[reference],
        ranks=ranks[:, order],
        relative=[found[:, order] for found in relative],
        iqm=[iqm[place] for place in order],
        improvement=[improvement[place] for place in order],
        friedman=friedman(means),
        critical=critical_difference(len(shared), len(values)) if len(values) >= FEWEST_BLOCKS else None,
        notes=notes,
    )


# --- which blocks and losses ---


def _key(row: Row) -> str:
    return canonical_json(row.loss)


def _rows(block: Block) -> list[Row]:
    """With the reference, which a choice of losses may leave out."""
    hidden = next((row.reference for row in block.rows if row.reference is not None), None)
    return block.rows if hidden is None or any(row.is_reference for row in block.rows) else [*block.rows, hidden]


def _main_blocks(blocks: Sequence[Block], notes: list[str]) -> list[Block]:
    main = [block for block in blocks if not block.variant]
    others = [block.title for block in blocks if block.variant]
    notes += [f"Left out, not the usual protocol of its dataset and backbone: {title}." for title in others]
    without = [block for block in main if not block.has_reference]
    notes += [f"Left out, no run of the reference: {block.title}." for block in without]
    main = [block for block in main if block.has_reference]
    if not main:
        raise ConfigError("no block with runs of the reference", hint="choose another one with --versus")
    return main


def _one_rule(blocks: Sequence[Block]) -> None:
    rules: dict[str, str] = {}
    for block in blocks:
        rules.setdefault(block.absent_class_rule, block.title)
    if len(rules) > 1:
        (one, here), (other, there) = list(rules.items())[:2]
        raise ConfigError(
            f"blocks differ in how they treat absent classes: {here} has '{one}', {there} '{other}'",
            hint="their means do not compare: choose with --dataset or --backbone",
        )


def _shared_losses(blocks: Sequence[Block], notes: list[str]) -> tuple[list[str], dict[str, str]]:
    """Losses that all blocks have, by identity, and a label of each."""
    labels: dict[str, str] = {}
    present = []
    for block in blocks:
        present.append({_key(row) for row in _rows(block)})
        for row in _rows(block):
            labels.setdefault(_key(row), row.label)
    shared = [key for key in labels if all(key in keys for keys in present)]
    missing = [
        f"{labels[key]} ({sum(key in keys for keys in present)} of {len(blocks)} blocks)"
        for key in labels
        if key not in shared
    ]
    if missing:
        notes.append(f"Left out, not in every block: {', '.join(missing)}.")
    if len(shared) < 2:
        raise ConfigError("fewer than two losses are in every block", hint="choose blocks with --dataset or --backbone")
    return shared, labels


def _by_seed(block: Block, losses: Sequence[str]) -> Floats | None:
    """mIoU (S, L) in percent over the seeds that all the losses share and scored; None without any."""
    rows = {_key(row): row.by_seed("miou") for row in _rows(block)}
    found = [rows[key] for key in losses]
    seeds = sorted(set.intersection(*(set(values) for values in found)))
    values = np.array([[scores[seed] for scores in found] for seed in seeds]).reshape(len(seeds), len(losses))
    values = values[~np.isnan(values).any(axis=1)]
    return values if len(values) else None


# --- statistics ---


def _ranks(means: Floats) -> Floats:
    """(B, L) ranks of means (B, L), highest first; equal as printed (2 decimals) is equal."""
    from scipy.stats import rankdata

    ranked: Floats = rankdata(-np.round(means, 2), axis=1)
    return ranked


def friedman(means: Floats) -> float | None:
    """p of the Friedman test that all L losses rank alike over B blocks, in the form of Iman & Davenport (1980, F with
    L - 1 and (L - 1)(B - 1) degrees of freedom) that Demšar recommends; None with B < 2 or L < 3."""
    blocks, losses = means.shape
    if blocks < 2 or losses < 3:
        return None
    from scipy.special import fdtrc
    from scipy.stats import friedmanchisquare

    rounded = np.round(means, 2)
    if (rounded == rounded[:, :1]).all():
        return 1.0
    chi = float(friedmanchisquare(*rounded.T).statistic)
    below = blocks * (losses - 1) - chi
    if below <= 1e-9:  # every block ranks the same
        return 0.0
    return float(fdtrc(losses - 1, (losses - 1) * (blocks - 1), (blocks - 1) * chi / below))


def critical_difference(losses: int, blocks: int, alpha: float = ALPHA) -> float:
    """Nemenyi's: mean ranks over `blocks` blocks that differ by more are different at `alpha`, over all pairs of
    `losses` losses: q sqrt(L (L + 1) / (6 B)) (Demšar 2006, section 3.2.2)."""
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - alpha, losses, math.inf)) / math.sqrt(2)
    return q * math.sqrt(losses * (losses + 1) / (6 * blocks))


def interquartile_mean(values: Floats) -> Floats:
    """Mean of the middle half along the last axis: a quarter, rounded down, cut off at each end."""
    ordered = np.sort(values, axis=-1)
    cut = int(ordered.shape[-1] * 0.25)
    mean: Floats = ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)
    return mean


def probability_of_improvement(ours: Floats, theirs: Floats) -> float:
    """P(X > Y) + P(X = Y) / 2 over all pairs of runs (the Mann-Whitney statistic)."""
    return float(_wins(ours, theirs).mean())


def _wins(ours: Floats, theirs: Floats) -> Floats:
    wins: Floats = np.sign(ours[:, None] - theirs) / 2 + 0.5
    return wins


def performance_profile(relative: Sequence[Floats], levels: Floats) -> Floats:
    """(L, levels): share of the runs whose relative score is above each level; every block has the same weight."""
    shares = [(found.T[:, :, None] > levels).mean(axis=1) for found in relative]
    profile: Floats = np.mean(shares, axis=0)
    return profile


def _resampled(relative: Sequence[Floats], reference: int) -> tuple[list[Range], list[Range | None]]:
    """Interquartile mean and probability of improvement of each loss, with percentile intervals of a bootstrap that
    draws seeds within each block (stratified), the same for all losses."""
    generator = np.random.default_rng(_SEED)
    number = int(np.clip(_SEEDS_DRAWN // max(map(len, relative)), *_RESAMPLES))
    drawn = [generator.integers(0, len(found), (number, len(found))) for found in relative]
    # How often each seed is drawn: over all pairs of drawn runs, wins are a quadratic form in these numbers.
    times = [
        np.stack([np.bincount(row, minlength=len(found)) for row in rows]) / len(found)
        for rows, found in zip(drawn, relative, strict=True)
    ]
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    iqm, improvement = [], list[Range | None]()
    for loss in range(relative[0].shape[1]):
        value = float(interquartile_mean(np.concatenate([found[:, loss] for found in relative])))
        each = [found[rows, loss] for found, rows in zip(relative, drawn, strict=True)]
        iqm.append(Range(value, *np.quantile(interquartile_mean(np.concatenate(each, axis=1)), tails).tolist()))
        if loss == reference:
            improvement.append(None)
            continue
        wins = [_wins(found[:, loss], found[:, reference]) for found in relative]
        chance = float(np.mean([each.mean() for each in wins]))
        spread = np.mean([((w @ m) * w).sum(axis=1) for w, m in zip(times, wins, strict=True)], axis=0)
        improvement.append(Range(chance, *np.quantile(spread, tails).tolist()))
    return iqm, improvement
