"""Losses across blocks: their ranks, and what was left out of them. Pure; no files. The figures are those of
`ranktests` (Demšar 2006) and `aggregates` (Agarwal et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lossbench.aggregates import Floats, Range, resampled
from lossbench.cells import canonical_json
from lossbench.errors import ConfigError
from lossbench.ranktests import FEWEST_BLOCKS, Friedman, critical_difference, friedman, ranks_of
from lossbench.standings import Block, Row

#: A loss with fewer seeds in a block is not ranked where most losses there have as many.
FEWEST_SEEDS = 3


@dataclass
class Ranking:
    """L losses over B blocks, best mean rank first.

    Attributes:
        blocks: titles.
        losses: labels.
        ranks: (B, L), 1 is best, ties at their mean, by mean mIoU over seeds.
        relative: per block (S, L) mIoU in percent of the reference's mean there, by seed; -inf of a run that scored
            nothing.
        iqm: interquartile mean of `relative` over blocks of equal weight.
        improvement: chance that a run of the loss beats one of the reference, mean over blocks; None for itself.
        friedman: whether all losses rank alike; None with fewer than 2 blocks or 3 losses.
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
    friedman: Friedman | None
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
    seed that all its losses share, is left out, and so is a loss with too few seeds. Notes name all that is. A run that
    scored nothing has no mean (as in `Row.describe`): its loss ranks last in that block.

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
    shared = _enough_seeds(main, shared, reference, labels, notes)
    ours = shared.index(reference)
    kept = [(block, found) for block in main if (found := _by_seed(block, shared, ours, labels, notes)) is not None]
    if not kept:
        raise ConfigError("no block has a seed that all losses share", hint="run the missing seeds")
    values = [found for _, found in kept]
    ranks = ranks_of(np.stack([_means(block, shared, found) for block, found in kept]))
    order = np.lexsort((np.array([labels[key] for key in shared]), ranks.mean(axis=0)))
    relative = [100 * found / found[:, ours].mean() for found in values]
    iqm, improvement = resampled(relative, ours)
    return Ranking(
        blocks=[block.title for block, _ in kept],
        losses=[labels[shared[place]] for place in order],
        reference=labels[reference],
        ranks=ranks[:, order],
        relative=[found[:, order] for found in relative],
        iqm=[iqm[place] for place in order],
        improvement=[improvement[place] for place in order],
        friedman=friedman(ranks),
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
    missing: dict[int, list[str]] = {}
    for key in labels:
        if key not in shared:
            missing.setdefault(sum(key in keys for keys in present), []).append(labels[key])
    notes += [
        f"Left out, in {count} of {len(blocks)} blocks: {', '.join(missing[count])}."
        for count in sorted(missing, reverse=True)
    ]
    if len(shared) < 2:
        raise ConfigError("fewer than two losses are in every block", hint="choose blocks with --dataset or --backbone")
    return shared, labels


def _enough_seeds(
    blocks: Sequence[Block], losses: Sequence[str], reference: str, labels: dict[str, str], notes: list[str]
) -> list[str]:
    """Without those that would have all others ranked over one or two seeds: with fewer in common with the reference,
    in some block, than FEWEST_SEEDS and than the median loss there."""
    few: dict[str, str] = {}
    for block in blocks:
        rows = {_key(row): set(row.seeds) for row in _rows(block)}
        common = {key: len(rows[key] & rows[reference]) for key in losses if key != reference}
        median = sorted(common.values())[len(common) // 2]
        for key, number in common.items():
            if number < min(FEWEST_SEEDS, median):
                few.setdefault(key, f"{labels[key]} ({number}, others {median}, in {block.title})")
    if few:
        notes.append(f"Left out, too few seeds in common with the reference: {_listed(list(few.values()))}.")
    kept = [key for key in losses if key not in few]
    if len(kept) < 2:
        raise ConfigError("fewer than two losses have enough seeds", hint="run the missing seeds")
    return kept


def _by_seed(
    block: Block, losses: Sequence[str], reference: int, labels: dict[str, str], notes: list[str]
) -> Floats | None:
    """mIoU (S, L) in percent over the seeds that all the losses share, -inf of a run that scored nothing; None, and a
    note, where they share none or the reference has no mean."""
    rows = {_key(row): row.by_seed("miou") for row in _rows(block)}
    found = [rows[key] for key in losses]
    seeds = sorted(set.intersection(*(set(values) for values in found)))
    if not seeds:
        notes.append(f"Left out, its losses share no seed: {block.title}.")
        return None
    values = np.array([[scores[seed] for scores in found] for seed in seeds])
    nothing = np.isnan(values)
    if _unscored(found[reference]) or not values[:, reference].any():
        notes.append(f"Left out, a run of the reference scored nothing: {block.title}.")
        return None
    most = max(map(len, found))
    if len(seeds) < most:
        every = set.union(*(set(scores) for scores in found))
        short = [labels[key] for key, scores in zip(losses, found, strict=True) if every - set(scores)]
        notes.append(
            f"Ranked over {_count(len(seeds), 'seed')} of up to {most} in {block.title}: not all are run of "
            f"{_listed(short)}."
        )
    last = [
        f"{labels[key]} ({_unscored(scores)} of {len(scores)})"
        for key, scores in zip(losses, found, strict=True)
        if _unscored(scores)
    ]
    if last:
        notes.append(
            f"Last in {block.title}, for runs that scored nothing: {_listed(last)}. Such a run counts as lost to the "
            "reference, and leaves the IQM blank."
        )
    values[nothing] = -math.inf
    return values


def _unscored(scores: Mapping[int, float]) -> int:
    return sum(map(math.isnan, scores.values()))


def _means(block: Block, losses: Sequence[str], values: Floats) -> Floats:
    """(L) over the shared seeds, -inf of a loss of which any run scored nothing: it has no mean (`Row.describe`)."""
    rows = {_key(row): row.by_seed("miou") for row in _rows(block)}
    means: Floats = values.mean(axis=0)
    means[[_unscored(rows[key]) > 0 for key in losses]] = -math.inf
    return means


def _listed(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"
