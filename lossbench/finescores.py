"""Scores beyond the confusion matrix, from what evaluation counts besides: boundary IoU and calibration. Pure numpy.

Raw counts are kept in a record (`Record.extra_counts`), all of them integers, so that any number of processes adds up
to the same; the figures are recomputed from them. Records from before have none, and their figures are undefined.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossbench import metrics

#: Width of a boundary in parts of the image's diagonal (Cheng et al. 2021, section 4.3).
BOUNDARY_RATIO = 0.02
#: Equal-width bins of confidence: bin k holds (k / BINS, (k + 1) / BINS] (Guo et al. 2017).
BINS = 15
#: Confidences and losses are summed in whole parts of this: sums of integers do not depend on their order.
CONFIDENCE_UNIT, NLL_UNIT = 2.0**-24, 2.0**-16

#: What calibration counts per bin.
_BINNED = ("pixels", "correct", "confidence")
#: Figures, in the order of `RunTable.fine`. mIoU of boundaries and ECE are fractions, NLL is in nats a pixel.
FINE = ("boundary_miou", "ece", "nll")


def boundary_width(height: int, width: int) -> int:
    """Pixels: BOUNDARY_RATIO of the diagonal, rounded, at least 1."""
    return max(1, round(BOUNDARY_RATIO * math.hypot(height, width)))


def scores(extra: Mapping[str, Any], classes: int | None = None) -> dict[str, float]:
    """The figures FINE of a record's extra counts, NaN where there are none or they make no sense.

    Args:
        extra: `boundary`: TP, FP, FN (C, 3) of boundary pixels, summed over the split; `calibration`: {"pixels",
            "correct", "confidence": (BINS) integers, "nll": integer}.
        classes: C; None: however many rows there are.
    """
    found = dict.fromkeys(FINE, math.nan)
    if "boundary" in extra:
        rows = extra["boundary"]
        number = len(rows) if classes is None and isinstance(rows, list) else classes or 0
        counts = _counts(rows, (number, 3))
        if counts is None:
            return dict.fromkeys(FINE, math.nan)
        found["boundary_miou"] = float(metrics.mean(metrics.class_scores(counts)["iou"]))
    if "calibration" in extra:
        counted = _calibration(extra["calibration"])
        if counted is None:
            return dict.fromkeys(FINE, math.nan)
        found |= _calibration_scores(*counted)
    return found


def problems(extra: Mapping[str, Any], confusion: NDArray[np.int64]) -> Iterator[str]:
    """What cannot be in a record's extra counts, given its confusion matrix (C, C)."""
    if odd := sorted(map(str, extra.keys() - {"boundary", "calibration"})):
        yield f"extra_counts holds {odd[0]!r}, which no record has"
    truth, found = confusion.sum(axis=1), confusion.sum(axis=0)
    boundary = _counts(extra.get("boundary", np.zeros((len(truth), 3), int).tolist()), (len(truth), 3))
    if boundary is None:
        yield f"boundary counts must be {len(truth)} x 3 integers >= 0"
    elif (boundary[:, [0, 2]].sum(axis=1) > truth).any() or (boundary[:, [0, 1]].sum(axis=1) > found).any():
        yield "a class has more pixels on its boundary than it has"
    if "calibration" in extra:
        yield from _calibration_problems(extra["calibration"], confusion)


def _calibration_problems(calibration: Any, confusion: NDArray[np.int64]) -> Iterator[str]:
    counted = _calibration(calibration)
    if counted is None:
        names = ", ".join(_BINNED)
        yield f"calibration must hold {BINS} integers >= 0 of each of {names}, and nll, an integer >= 0"
        return
    (pixels, correct, confidence), _ = counted
    if int(pixels.sum()) != int(confusion.sum()) or int(correct.sum()) != int(np.trace(confusion)):
        yield "the pixels by confidence, or the correct ones, are not as many as those of the confusion matrix"
    if (correct > pixels).any():
        yield "a bin of confidence has more correct pixels than pixels"
    unit, edges = confidence * CONFIDENCE_UNIT, np.arange(BINS + 1) / BINS
    slack = pixels * 2 * CONFIDENCE_UNIT
    if (unit < edges[:-1] * pixels - slack).any() or (unit > edges[1:] * pixels + slack).any():
        yield "the confidences of a bin do not lie within it"


def _counts(value: Any, shape: tuple[int, ...]) -> NDArray[np.int64] | None:
    """Lists of integers >= 0 of that shape; None for anything else."""
    if not isinstance(value, list) or len(value) != shape[0]:
        return None
    if len(shape) == 2 and not all(isinstance(row, list) and len(row) == shape[1] for row in value):
        return None
    flat = [item for row in value for item in row] if len(shape) == 2 else value
    if not all(type(item) is int and 0 <= item < 2**62 for item in flat):
        return None
    return np.array(flat, dtype=np.int64).reshape(shape)


def _calibration(value: Any) -> tuple[list[NDArray[np.int64]], int] | None:
    """The arrays of _BINNED and the sum of the losses; None for anything else."""
    given = value if isinstance(value, Mapping) else {}
    arrays = [found for name in _BINNED if (found := _counts(given.get(name), (BINS,))) is not None]
    nll = given.get("nll")
    return None if len(arrays) < len(_BINNED) or type(nll) is not int or nll < 0 else (arrays, nll)


def _calibration_scores(arrays: list[NDArray[np.int64]], nll: int) -> dict[str, float]:
    """Expected calibration error: sum over bins of (share of the pixels) x |accuracy - mean confidence|."""
    pixels, correct, confidence = (array.astype(np.float64) for array in arrays)
    total = float(pixels.sum())
    if not total or (correct > pixels).any() or (confidence * CONFIDENCE_UNIT > pixels).any():
        return {"ece": math.nan, "nll": math.nan}
    gaps = np.abs(correct - confidence * CONFIDENCE_UNIT)
    return {"ece": float(gaps.sum()) / total, "nll": float(nll) * NLL_UNIT / total}
