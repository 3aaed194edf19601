"""Our own records under the rules of audit.py: every figure anew from the confusion matrix, and the per-image counts
against it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lossbench import metrics
from lossbench.audit import MEASURES, SCALARS, Check, Score, ScoreRow, check_row
from lossbench.errors import RecordError
from lossbench.records import Record
from lossbench.sidecar import load_sidecar
from lossbench.store import StoredRecord

_KINDS = ("TP", "FP", "FN")


def check_record(stored: StoredRecord) -> tuple[list[Check], list[str]]:
    """Every check of a record and its sidecar, and notes on what could not be checked."""
    record, sidecar = stored.record, stored.path.with_suffix(".npz")
    label = row_label(record)
    checks: list[Check] = []
    notes: list[str] = []
    if record.status != "diverged":
        checks.append(check_scored(label, record))
    counts = None
    if not sidecar.exists():
        notes.append(f"{label}: no per-image counts ({sidecar.name})")
    else:
        try:
            counts, names = load_sidecar(sidecar)
            checks += check_counts(label, record, counts, names)
        except RecordError as error:
            checks.append(unreadable(label, error.message))
    sound = counts if counts is not None and all(check.holds for check in checks) else None
    return [*check_row(score_row(label, record, sound)), *checks], notes


def row_label(record: Record) -> str:
    labels = record.labels
    return f"{labels['dataset']} / {labels['backbone']} / {labels['loss']} / seed {record.seed} ({record.id[:10]})"


def score_row(label: str, record: Record, per_image: NDArray[np.int32] | None) -> ScoreRow:
    """All figures of a record in full precision; those over images where there are sound counts (n_images, C, 3)."""
    figures = metrics.summary(record.confusion, record.train_pixels, per_image)
    scores = metrics.class_scores(metrics.counts_of(record.confusion))
    classes = {
        name: {measure: _score(scores[measure][index]) for measure in MEASURES if not np.isnan(scores[measure][index])}
        for index, name in enumerate(record.class_names)
    }
    means = {key: _score(figures[key]) for key in SCALARS if not np.isnan(figures.get(key, np.nan))}
    return ScoreRow(label, means, classes)


def check_scored(label: str, record: Record) -> Check:
    """Whether any pixel was scored: of a run that did not diverge, nothing else may be all zero."""
    pixels = int(record.confusion.sum())
    return Check("scored", label, "", "pixels", str(pixels), ">", "0", float(pixels == 0), pixels > 0)


def check_counts(label: str, record: Record, counts: NDArray[np.int32], names: Sequence[str]) -> Iterator[Check]:
    """Whether per-image counts (n_images, C, 3) are of the confusion matrix."""
    classes = len(record.class_names)
    if counts.shape != (len(names), classes, 3) or counts.dtype.kind not in "iu":
        said = f"{counts.dtype} of shape {counts.shape} for {len(names)} images and {classes} classes"
        yield unreadable(label, f"per-image counts are {said}")
        return
    if counts.size and int(counts.min()) < 0:
        yield unreadable(label, "per-image counts are negative")
        return
    sums, totals = counts.sum(axis=0, dtype=np.int64), metrics.counts_of(record.confusion)
    if np.array_equal(sums, totals):
        yield _count("sidecar", label, "", "sums", 0, "= matrix", 0)
    for index, kind in np.argwhere(sums != totals).tolist():
        ours, theirs = int(sums[index, kind]), int(totals[index, kind])
        yield _count("sidecar", label, record.class_names[index], f"sum of {_KINDS[kind]}", ours, "= matrix", theirs)
    wrong = counts.sum(axis=1, dtype=np.int64)
    uneven = np.flatnonzero(wrong[:, metrics.FP] != wrong[:, metrics.FN]).tolist()
    if not uneven:
        yield _count("image", label, "", "FP", 0, "= FN", 0)
    for image in uneven:
        ours, theirs = int(wrong[image, metrics.FP]), int(wrong[image, metrics.FN])
        yield _count("image", label, names[image], "FP", ours, "= FN", theirs)


def unreadable(label: str, message: str) -> Check:
    """What stands for a record or sidecar that cannot be read."""
    return Check("readable", label, "", "file", "-", "readable", "", 0.0, False, message)


def _count(rule: str, label: str, subject: str, name: str, ours: int, relation: str, theirs: int) -> Check:
    off = abs(ours - theirs)
    return Check(rule, label, subject, name, str(ours), relation, str(theirs), off, off == 0)


def _score(fraction: float) -> Score:
    return Score.of(100 * float(fraction))
