"""Every figure of a run, derived from confusion counts. Pure numpy functions; scores are fractions in [0, 1].

Definitions (Su et al. 2022, eq. 7-10), with n_ij the pixels of true class i predicted as j, TP_c = n_cc,
FN_c = row - TP_c, FP_c = column - TP_c:

    IoU_c = TP / (TP + FP + FN)         accuracy_c = recall_c = TP / (TP + FN)
    precision_c = TP / (TP + FP)        F1_c = 2 TP / (2 TP + FP + FN)

**Which classes count.** One rule for every score, so that all means run over the same classes:

- in neither truth nor prediction (TP + FP + FN = 0): NaN, left out of every mean, never scored 0 or 1
  (the rule of the Cityscapes evaluator for IoU);
- predicted, but nowhere in the truth: IoU, precision and F1 are 0 by their formulae; recall is 0/0 and is set to 0;
- in the truth, but never predicted: IoU, recall and F1 are 0 by their formulae; precision is 0/0 and is set to 0.
  (Leaving it out would *raise* the mean precision of a loss that ignores the rare classes.)

This equals torchmetrics' macro averages and scikit-learn's `zero_division=0`; toolboxes that take a nanmean of
precision and recall differ wherever a 0/0 occurs. By the definitions, mean accuracy and mean recall are one number.

Counts are `int64`: 2^63 pixels are out of reach, and sums of matrices are exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossbench.errors import DataError

Counts = NDArray[np.int64]
Scores = NDArray[np.float64]

#: How a class in neither truth nor prediction is treated; stated in every record.
ABSENT_CLASS_RULE = "excluded"
#: Share of the images that `image_miou_worst` is over.
WORST = 0.05
#: Last axis of an array of counts.
TP, FP, FN = 0, 1, 2


# --- counting ---


def confusion_matrix(target: ArrayLike, prediction: ArrayLike, num_classes: int, ignore_index: int = 255) -> Counts:
    """Confusion matrix (C, C) int64 of two integer label maps of one shape; rows = truth, columns = prediction.

    Pixels whose target is `ignore_index` count nowhere. Raises DataError when the shapes differ, when a target is
    neither a class nor `ignore_index`, or when a prediction at a labelled pixel is no class.
    """
    truth, guess = np.asarray(target), np.asarray(prediction)
    if truth.shape != guess.shape:
        raise DataError(f"target {truth.shape} and prediction {guess.shape} differ in shape")
    if truth.dtype.kind not in "iu" or guess.dtype.kind not in "iu":
        raise DataError(f"labels must be integers, got {truth.dtype} and {guess.dtype}")
    labelled = truth != ignore_index
    if not labelled.all():
        truth, guess = truth[labelled], guess[labelled]
    if truth.size:
        _check_range("target", truth, num_classes, f" or {ignore_index} (ignored)")
        _check_range("prediction", guess, num_classes, "")
    # The row-major position of (truth, prediction) in the matrix: one bincount counts all pairs.
    index = truth.astype(np.intp) * num_classes + guess.astype(np.intp, copy=False)
    return np.bincount(index.ravel(), minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def _check_range(what: str, labels: NDArray[Any], num_classes: int, also: str) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise DataError(f"{what} holds id {low if low < 0 else high}, but ids are 0..{num_classes - 1}{also}")


def counts_of(confusion: ArrayLike) -> Counts:
    """TP, FP, FN per class, (..., C, 3) int64, of confusion matrices (..., C, C)."""
    matrix = np.asarray(confusion)
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    return np.stack([hits, matrix.sum(axis=-2) - hits, matrix.sum(axis=-1) - hits], axis=-1).astype(np.int64)


def counts_per_image(confusions: ArrayLike) -> NDArray[np.int32]:
    """The sidecar of a record: TP, FP, FN (n_images, C, 3) int32 of one confusion matrix (C, C) per image."""
    matrices = np.asarray(confusions)
    if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2]:
        raise DataError(f"per-image confusion matrices must be (n_images, C, C), got {matrices.shape}")
    counts = counts_of(matrices)
    if counts.size and int(counts.max()) > np.iinfo(np.int32).max:
        raise DataError("an image of more than 2^31 pixels does not fit the per-image counts")
    return counts.astype(np.int32)


# --- per class ---


def class_scores(counts: ArrayLike) -> dict[str, Scores]:
    """Per-class `iou`, `accuracy`, `precision`, `recall`, `f1`, each (..., C), of counts (..., C, 3).

    NaN where a class is in neither truth nor prediction; 0/0 elsewhere is 0 (see the module's docstring).
    """
    array = np.asarray(counts, dtype=np.float64)
    tp, fp, fn = array[..., TP], array[..., FP], array[..., FN]
    absent = tp + fp + fn == 0

    def score(numerator: Scores, denominator: Scores) -> Scores:
        values = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
        values[absent] = np.nan
        return values

    recall = score(tp, tp + fn)
    return {
        "iou": score(tp, tp + fp + fn),
        "accuracy": recall.copy(),
        "precision": score(tp, tp + fp),
        "recall": recall,
        "f1": score(2 * tp, 2 * tp + fp + fn),
    }


def iou(confusion: ArrayLike) -> Scores:
    """Intersection over union (Jaccard index) per class, (..., C). Eq. 7."""
    return class_scores(counts_of(confusion))["iou"]


def accuracy(confusion: ArrayLike) -> Scores:
    """Class accuracy (..., C), the share of a class's true pixels that are found: the same as `recall`. Eq. 8."""
    return class_scores(counts_of(confusion))["accuracy"]


def precision(confusion: ArrayLike) -> Scores:
    """Share of the pixels predicted as a class that are of it, (..., C). Eq. 9."""
    return class_scores(counts_of(confusion))["precision"]


def recall(confusion: ArrayLike) -> Scores:
    """Share of a class's true pixels that are found, (..., C). Eq. 10."""
    return class_scores(counts_of(confusion))["recall"]


def f1(confusion: ArrayLike) -> Scores:
    """Harmonic mean of precision and recall, the Dice score (..., C); F1 = 2 IoU / (1 + IoU)."""
    return class_scores(counts_of(confusion))["f1"]


# --- over classes ---


def mean(values: ArrayLike, axis: int | None = -1) -> Scores:
    """Mean over the values that are not NaN; NaN (without a warning) where there is none."""
    array = np.asarray(values, dtype=np.float64)
    defined = ~np.isnan(array)
    number = defined.sum(axis=axis)
    total = np.where(defined, array, 0.0).sum(axis=axis)
    return _ratio(total, number)


def mean_iou(confusion: ArrayLike) -> float:
    """Mean intersection over union of one confusion matrix (C, C), a fraction; NaN without pixels."""
    return float(mean(iou(confusion)))


def pixel_accuracy(confusion: ArrayLike) -> Scores:
    """Share of all labelled pixels that are right, (...); NaN without pixels."""
    return _pixel_accuracy(counts_of(confusion))


def _pixel_accuracy(counts: Counts) -> Scores:
    right = counts[..., TP].sum(axis=-1).astype(np.float64)
    return _ratio(right, (counts[..., TP] + counts[..., FN]).sum(axis=-1).astype(np.float64))


def frequency_weighted_iou(confusion: ArrayLike) -> Scores:
    """Sum over classes of (share of the truth) x IoU, (...) (Long et al. 2015); NaN without pixels."""
    counts = counts_of(confusion)
    return _frequency_weighted(counts, class_scores(counts)["iou"])


def _frequency_weighted(counts: Counts, ious: Scores) -> Scores:
    truth = (counts[..., TP] + counts[..., FN]).astype(np.float64)
    return _ratio((truth * np.nan_to_num(ious)).sum(axis=-1), truth.sum(axis=-1))


def _ratio(part: Scores, whole: Scores) -> Scores:
    """`part / whole`; NaN where the whole is nothing."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0))


def frequency_groups(train_pixels: Sequence[int] | NDArray[np.int64]) -> dict[str, NDArray[np.intp]]:
    """Indices of the `head`, `middle` and `tail` classes by their share of the labelled *training* pixels.

    Classes are ranked by training pixels, commonest first (ties: the lower index first). Head and tail are the
    first and the last round(C / 3) of them, the middle is the rest: C = 11 gives 4, 3, 4; C = 19 gives 6, 7, 6;
    C = 2 gives 1, 0, 1. Within a group the indices are in rank order.
    """
    pixels = np.asarray(train_pixels)
    order = np.argsort(-pixels, kind="stable")
    third = (len(order) + 1) // 3
    return {"head": order[:third], "middle": order[third : len(order) - third], "tail": order[len(order) - third :]}


# --- over images ---


def image_averages(per_image: ArrayLike) -> dict[str, float]:
    """Image-averaged scores of counts (n_images, C, 3).

    `image_miou`, `image_macc`, `image_mprecision`, `image_mrecall`, `image_mf1`: the mean over classes is taken
    within each image (classes in neither its truth nor its prediction left out), then over the images that hold
    any labelled pixel: every image weighs the same. `image_class_miou`: each class is averaged over the images
    it occurs in first, then over classes: every class weighs the same. (mIoU^I and mIoU^C of Wang et al. 2023,
    "Revisiting Evaluation Metrics for Semantic Segmentation", with this module's rule for absent classes.)
    `image_miou_worst`: the mean over the worst 5 % of the images (their mIoU^I_q at q = 5).
    """
    scores = class_scores(per_image)
    averages = {f"image_m{short}": float(mean(mean(scores[name]), None)) for name, short in _SHORT.items()}
    averages["image_class_miou"] = float(mean(mean(scores["iou"], axis=0)))
    averages["image_miou_worst"] = worst(mean(scores["iou"]))
    return averages


def worst(values: ArrayLike, share: float = WORST) -> float:
    """Mean over the lowest `share` of the values that are not NaN, of ceil(share n) values and so of at least one;
    which of equal values is among them changes nothing. NaN without any."""
    array = np.asarray(values, dtype=np.float64)
    ordered = np.sort(array[~np.isnan(array)])
    # Less a hair, so that 0.05 x 100, which is a little more than 5 in binary, is 5.
    number = max(1, int(np.ceil(share * len(ordered) - 1e-9)))
    return float(mean(ordered[:number]))


_SHORT: Mapping[str, str] = {
    "iou": "iou",
    "accuracy": "acc",
    "precision": "precision",
    "recall": "recall",
    "f1": "f1",
}


#: Keys of `image_averages`.
IMAGE_AVERAGES = (*(f"image_m{short}" for short in _SHORT.values()), "image_class_miou", "image_miou_worst")


# --- all of it ---


def summary(
    confusion: ArrayLike,
    train_pixels: Sequence[int] | NDArray[np.int64],
    per_image: ArrayLike | None = None,
) -> dict[str, float]:
    """Every scalar figure of a run, as fractions.

    Args:
        confusion: (C, C), rows = truth.
        train_pixels: labelled training pixels per class (C).
        per_image: TP, FP, FN (n_images, C, 3); without it the image-averaged scores are left out.

    Returns: `miou`, `macc`, `mprecision`, `mrecall`, `mf1`, `pixel_accuracy`, `fwiou`, `head_miou`, `middle_miou`,
        `tail_miou`, and those of `image_averages`. NaN where undefined.
    """
    figures = {key: float(value) for key, value in pooled(counts_of(confusion), train_pixels).items()}
    if per_image is not None:
        figures.update(image_averages(per_image))
    return figures


def pooled(counts: Counts, train_pixels: Sequence[int] | NDArray[np.int64]) -> dict[str, Scores]:
    """The scores of `summary` but for the image-averaged ones, each (...), of counts (..., C, 3): of one run or, at a
    fraction of the cost and bit for bit the same, of many with the same training pixels."""
    scores = class_scores(counts)
    figures = {f"m{short}": mean(scores[name]) for name, short in _SHORT.items()}
    figures["pixel_accuracy"] = _pixel_accuracy(counts)
    figures["fwiou"] = _frequency_weighted(counts, scores["iou"])
    for group, classes in frequency_groups(train_pixels).items():
        figures[f"{group}_miou"] = mean(np.take(scores["iou"], classes, axis=-1))
    return figures
