"""Arithmetic that a table of segmentation scores must obey, whatever was measured. Pure functions.

Every number is taken as printed: 62.1 stands for anything from 62.05 to 62.15. A check fails only when no numbers that
print so could pass it. With TP, FP, FN of a class, P = TP / (TP + FP), R = TP / (TP + FN), J = TP / (TP + FP + FN),
F = 2 TP / (2 TP + FP + FN):

- class accuracy is R by its formula (Su et al. 2022, eq. 8 and 10): their means are equal, too;
- J <= min(P, R), as its denominator is no smaller; a mean of J is then at most the means of P and of R;
- 1/J = 1/P + 1/R - 1, so of one class, P and R give J. Of means only a bound is left: with a = 1/P - 1, b = 1/R - 1,
  (1 - ab)(1 + a + b) <= (1 + a)(1 + b) gives J >= P + R - 1, which is linear and so holds for means;
- F = 2J / (1 + J) of one class. It is concave in J, so by Jensen's inequality (Acta Mathematica 30, 1906) the mean of F
  is at *most* 2m / (1 + m) of the mean m of J; and at least m, since F >= J;
- F = 2PR / (P + R) of one class. The harmonic mean is concave, so the mean of F is at most that of the two means.

Nothing here asks over what a mean runs (classes, images, seeds), only that the means of a row run over the same.
What is said of J against P and R also holds where classes of 0/0 are left out of the means of P and R.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

#: Slack for floating-point noise, in percent points.
_EPSILON = 1e-9
#: Per-class measures, and what their means are called.
MEASURES: Mapping[str, str] = {
    "iou": "miou", "accuracy": "macc", "precision": "mprecision", "recall": "mrecall", "f1": "mf1",
}  # fmt: skip
_CLASS_TITLES = {"iou": "IoU", "accuracy": "acc", "precision": "prec", "recall": "rec", "f1": "F1"}
_MEAN_TITLES = {"iou": "mIoU", "accuracy": "mAcc", "precision": "mPrec", "recall": "mRec", "f1": "mF1"}
#: Scalar scores that are read; those with `image_` are means over images.
SCALARS = (
    *MEASURES.values(), "pixel_accuracy", "fwiou", "head_miou", "middle_miou", "tail_miou",
    *(f"image_{key}" for key in MEASURES.values()), "image_class_miou",
)  # fmt: skip


@dataclass(frozen=True)
class Score:
    """A score in percent: as printed, it stands for anything from `low` to `high`. `text` is how it was printed."""

    value: float
    low: float
    high: float
    text: str = ""

    @classmethod
    def of(cls, value: float, half: float = 0.0, text: str = "") -> Score:
        """A score printed with digits of which half a unit of the last is `half`."""
        return cls(value, value - half, value + half, text)

    @property
    def shown(self) -> str:
        return self.text or f"{self.value:.2f}"


@dataclass(frozen=True)
class ScoreRow:
    """A row of a table.

    Attributes:
        label: what the row is of.
        means: `SCALARS` -> score.
        classes: class -> keys of `MEASURES` -> score.
        averaged: over several evaluations (seeds): then a class's scores are means, too.
    """

    label: str
    means: Mapping[str, Score] = field(default_factory=dict)
    classes: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)
    averaged: bool = False


@dataclass(frozen=True)
class Check:
    """One comparison. `score` of `row` (and `subject`, a class) is printed as `printed` and must be `relation`
    `expected`; it is `off` by so many points, though that is an error only where it does not hold. `hint`: what may be
    the matter."""

    rule: str
    row: str
    subject: str
    score: str
    printed: str
    relation: str
    expected: str
    off: float
    holds: bool
    hint: str = ""


#: Row and class of a check.
_Where = tuple[str, str]
_ALL = Score(100.0, 0.0, 100.0, "100")


def check_row(row: ScoreRow) -> Iterator[Check]:
    """Every check that the scores of a row allow."""
    for key, score in row.means.items():
        yield _compare("range", (row.label, ""), title(key), score, "within 0 to", _ALL)
    for prefix, suffix in (("", ""), ("image_", "/img")):
        means = {m: row.means[prefix + key] for m, key in MEASURES.items() if prefix + key in row.means}
        yield from _bounds((row.label, ""), means, {m: text + suffix for m, text in _MEAN_TITLES.items()})
    for name, scores in row.classes.items():
        for measure, score in scores.items():
            yield _compare("range", (row.label, name), _CLASS_TITLES[measure], score, "within 0 to", _ALL)
        rules = _bounds if row.averaged else _identities
        yield from rules((row.label, name), scores, _CLASS_TITLES)
    yield from _class_means(row)
    if "fwiou" in row.means and "pixel_accuracy" in row.means:
        most = _at_most(row.means["pixel_accuracy"])
        yield _compare("fwiou", (row.label, ""), "fwIoU", row.means["fwiou"], "<= pixAcc", most)


def fractions(row: ScoreRow) -> list[str]:
    """The means of a row that look like fractions among percentages: at most 1, where another is above."""
    small = [f"{title(key)} {score.shown}" for key, score in row.means.items() if 0 < score.value <= 1]
    return small if len(small) < len(row.means) else []


def title(key: str) -> str:
    """The printed name of a scalar score."""
    prefix, short = ("image_", key.removeprefix("image_")) if key.startswith("image_") else ("", key)
    for measure, mean in MEASURES.items():
        if short == mean:
            return _MEAN_TITLES[measure] + ("/img" if prefix else "")
    return {"pixel_accuracy": "pixAcc", "fwiou": "fwIoU", "image_class_miou": "mIoU/cls"}.get(key, key)


# --- rules of one class, and of means ---


def _shared(where: _Where, scores: Mapping[str, Score], titles: Mapping[str, str]) -> Iterator[Check]:
    """What holds for a class and for means alike."""
    if "accuracy" in scores and "recall" in scores:
        relation = f"= {titles['recall']}"
        yield _compare("accuracy", where, titles["accuracy"], scores["accuracy"], relation, scores["recall"])
    upper = {titles[m]: scores[m] for m in ("precision", "recall", "accuracy") if m in scores}
    if "iou" in scores and upper:
        name, least = min(upper.items(), key=lambda item: item[1].value)
        # The least high end bounds; it may belong to another one, printed more coarsely.
        most = replace(_at_most(least), high=min(score.high for score in upper.values()))
        yield _compare("iou_most", where, titles["iou"], scores["iou"], f"<= {name}", most)


def _identities(where: _Where, scores: Mapping[str, Score], titles: Mapping[str, str]) -> Iterator[Check]:
    """Of one class in one evaluation."""
    yield from _shared(where, scores, titles)
    recall = scores.get("recall", scores.get("accuracy"))
    iou, precision, f1 = scores.get("iou"), scores.get("precision"), scores.get("f1")
    if iou and precision and recall:
        expected = _derived(iou_of, precision, recall)
        yield _compare("iou", where, titles["iou"], iou, "= 1/(1/P + 1/R - 1)", expected)
    if f1 and iou:
        yield _compare("f1_iou", where, titles["f1"], f1, "= 2 IoU/(1 + IoU)", _derived(f1_of_iou, iou))
    if f1 and precision and recall:
        yield _compare("f1_pr", where, titles["f1"], f1, "= 2 P R/(P + R)", _derived(f1_of, precision, recall))


def _bounds(where: _Where, scores: Mapping[str, Score], titles: Mapping[str, str]) -> Iterator[Check]:
    """Of means over classes, images or seeds."""
    yield from _shared(where, scores, titles)
    recall = scores.get("recall", scores.get("accuracy"))
    iou, precision, f1 = scores.get("iou"), scores.get("precision"), scores.get("f1")
    if iou and precision and recall:
        least = Score(precision.value + recall.value - 100, precision.low + recall.low - 100, math.inf)
        yield _compare("iou_least", where, titles["iou"], iou, ">= P + R - 100", least)
    if f1 and iou:
        most = _at_most(_derived(f1_of_iou, iou))
        yield _compare("mf1_most", where, titles["f1"], f1, "<= 2 IoU/(1 + IoU)", most)
        yield _compare("mf1_least", where, titles["f1"], f1, f">= {titles['iou']}", replace(iou, high=math.inf))
    if f1 and precision and recall:
        most = _at_most(_derived(f1_of, precision, recall))
        yield _compare("mf1_pr", where, titles["f1"], f1, "<= 2 P R/(P + R)", most)


def _class_means(row: ScoreRow) -> Iterator[Check]:
    for measure, key in MEASURES.items():
        values = [scores[measure] for scores in row.classes.values() if measure in scores]
        if key not in row.means or len(values) < 2:
            continue
        # Over seeds, a class at 0 may have been in neither truth nor prediction of some, and not counted there.
        zeros = sum(score.low <= 0 for score in values) if row.averaged else 0
        least = sum(score.low for score in values) / len(values)
        most = sum(score.high for score in values) / max(len(values) - zeros, 1)
        mean = sum(score.value for score in values) / len(values)
        relation = f"= mean of {len(values)}"
        where = (row.label, "")
        yield _compare("class_mean", where, title(key), row.means[key], relation, Score(mean, least, most))


# --- arithmetic ---


def _at_most(score: Score) -> Score:
    return replace(score, low=-math.inf)


def iou_of(precision: float, recall: float) -> float:
    """IoU of a class from precision and recall, all in percent; 0 where either is 0."""
    if precision <= 0 or recall <= 0:
        return 0.0
    return 100 / (100 / precision + 100 / recall - 1)


def f1_of_iou(iou: float) -> float:
    """F1 of a class from its IoU, in percent."""
    return 200 * iou / (100 + iou)


def f1_of(precision: float, recall: float) -> float:
    """F1 of a class from precision and recall, in percent; 0 where both are 0."""
    total = precision + recall
    return 2 * precision * recall / total if total > 0 else 0.0


def _derived(formula: Callable[..., float], *scores: Score) -> Score:
    """`formula`, which rises with each of its arguments, of printed scores."""
    lows, highs = [max(score.low, 0.0) for score in scores], [score.high for score in scores]
    return Score(formula(*(score.value for score in scores)), formula(*lows), formula(*highs))


def _compare(rule: str, where: _Where, name: str, printed: Score, relation: str, expected: Score) -> Check:
    """Whether a number that prints as `printed` may lie within the ends of `expected`."""
    holds = printed.high >= expected.low - _EPSILON and printed.low <= expected.high + _EPSILON
    off = abs(printed.value - expected.value)
    if rule == "range" and printed.value < 0:
        off = -printed.value
    return Check(rule, *where, name, printed.shown, relation, expected.shown, off, holds)
