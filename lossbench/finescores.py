"""Scores beyond the confusion matrix, from what evaluation counts besides: boundary IoU and calibration. Pure numpy.

Raw counts are kept in a record (`Record.extra_counts`), all of them integers, so that any number of processes adds up
to the same; the figures are recomputed from them. Records from before have none, and their figures are undefined.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lossbench import metrics

#: Width of a boundary in parts of the image's diagonal (Cheng et al. 2021, section 4.3).
BOUNDARY_RATIO = 0.02
#: Equal-width bins of confidence: bin k holds (k / BINS, (k + 1) / BINS] (Guo et al. 2017).
BINS = 15
#: Confidences and losses are summed in whole parts of this: sums of integers do not depend on their order.
CONFIDENCE_UNIT, NLL_UNIT = 2.0**-24, 2.0**-16

#: Figures, in the order of `RunTable.fine`. mIoU of boundaries and ECE are fractions, NLL is in nats a pixel.
FINE = ("boundary_miou", "ece", "nll")


def boundary_width(height: int, width: int) -> int:
    """Pixels: BOUNDARY_RATIO of the diagonal, rounded, at least 1."""
    return max(1, round(BOUNDARY_RATIO * math.hypot(height, width)))


def scores(extra: Mapping[str, Any]) -> dict[str, float]:
    """The figures FINE of a record's extra counts, NaN where there are none or they make no sense.

    Args:
        extra: `boundary`: TP, FP, FN (C, 3) of boundary pixels, summed over the split; `calibration`: {"pixels",
            "correct", "confidence": (BINS) integers, "nll": integer}.
    """
    found = dict.fromkeys(FINE, math.nan)
    try:
        if "boundary" in extra:
            counts = np.asarray(extra["boundary"], dtype=np.int64).reshape(-1, 3)
            found["boundary_miou"] = float(metrics.mean(metrics.class_scores(counts)["iou"]))
        if "calibration" in extra:
            found |= _calibration(extra["calibration"])
    except (TypeError, ValueError, KeyError, OverflowError):
        return dict.fromkeys(FINE, math.nan)
    return found


def _calibration(counts: Mapping[str, Any]) -> dict[str, float]:
    """Expected calibration error: sum over bins of (share of the pixels) x |accuracy - mean confidence|."""
    pixels, correct, confidence = (
        np.asarray(counts[key], dtype=np.float64) for key in ("pixels", "correct", "confidence")
    )
    total = float(pixels.sum())
    if not total or pixels.shape != (BINS,):
        return {"ece": math.nan, "nll": math.nan}
    gaps = np.abs(correct - confidence * CONFIDENCE_UNIT)
    return {"ece": float(gaps.sum()) / total, "nll": float(counts["nll"]) * NLL_UNIT / total}
