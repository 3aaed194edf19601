"""Bootstrap intervals for the rows of a block, from the sidecars of its runs."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from lossbench.bootstrap import RESAMPLES, Floats, interval, resampled_miou
from lossbench.errors import RecordError
from lossbench.sidecar import load_sidecar
from lossbench.standings import Block, Row

Names = tuple[str, ...]
_Counts = NDArray[np.int32]


def ask_bootstrap(block: Block, resamples: int = RESAMPLES) -> None:
    """Give every row the bootstrap interval of its mIoU and of its difference to the reference, in points.

    All runs must have been scored on the same images. A row of which one has no sound per-image counts, or of other
    images than most, has no interval: it would be one of other seeds than the mean beside it. A note of the block
    names it.
    """
    block.resamples = resamples
    rows = [*block.rows]
    reference = next((row.reference for row in rows if row.reference is not None), None)
    if reference is not None and reference not in rows:  # `--loss` may hide it
        rows.append(reference)
    found = [_per_image(row) for row in rows]
    sets = Counter(names for runs in found for names, _ in runs.values())
    if not sets:
        block.notes.append("No run has per-image counts: there is no bootstrap interval.")
        return
    images = sets.most_common(1)[0][0]
    values = [_resampled(runs, images, resamples) for runs in found]
    _note_missing(block, rows, values)
    theirs = values[rows.index(reference)] if reference is not None else {}
    for row, ours in zip(rows, values, strict=True):
        if ours.keys() == set(row.seeds):
            row.miou_interval = interval(np.stack([*ours.values()], axis=1), len(images))
        common = [] if row.delta is None else row.delta.seeds
        if common and ours.keys() & theirs.keys() >= set(common):
            differences = [ours[seed] - theirs[seed] for seed in common]
            row.delta_interval = interval(np.stack(differences, axis=1), len(images))


def _per_image(row: Row) -> dict[int, tuple[Names, _Counts]]:
    """Image names and counts (I, C, 3) by seed, of the runs that scored anything and have a sound sidecar."""
    found = {}
    for seed, place in zip(row.runs.seeds, row.runs.rows.tolist(), strict=True):
        table = row.runs.table
        total = table.counts_of(np.array([place]))[0]
        try:
            counts, names = load_sidecar(table.path(place).with_suffix(".npz"))
        except RecordError:
            continue
        if counts.ndim == 3 and total.any() and np.array_equal(counts.sum(axis=0, dtype=np.int64), total):
            found[seed] = (tuple(names), counts)
    return found


def _resampled(runs: dict[int, tuple[Names, _Counts]], images: Names, resamples: int) -> dict[int, Floats]:
    """mIoU over the resamples by seed."""
    sound = {seed: counts for seed, (names, counts) in runs.items() if names == images}
    if not sound:
        return {}
    values = resampled_miou(np.stack([*sound.values()]), resamples)
    return dict(zip(sound, values.T, strict=True))


def _note_missing(block: Block, rows: list[Row], values: list[dict[int, Floats]]) -> None:
    left = [(row, len(ours)) for row, ours in zip(rows, values, strict=True) if len(ours) < row.n]
    if left:
        listed = ", ".join(f"{row.label} ({number} of {row.n} have them)" for row, number in left)
        block.notes.append(f"No bootstrap interval for want of runs with counts on the same images: {listed}.")
