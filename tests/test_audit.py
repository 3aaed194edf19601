"""Arithmetic of scores: whatever comes from confusion matrices passes at any rounding, and each corruption is found."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lossbench import metrics
from lossbench.audit import MEASURES, SCALARS, Score, ScoreRow, check_row, f1_of, f1_of_iou, fractions, iou_of, title
from lossbench.views.audit import WHY

counts = st.integers(2, 6).flatmap(
    lambda classes: arrays(np.int64, (3, classes, classes), elements=st.one_of(st.just(0), st.integers(0, 400)))
)


def printed(value, digits):
    text = f"{value:.{digits}f}"
    return Score.of(float(text), 0.5 * 10**-digits, text)


def row_of(matrices, digits=2, averaged=False, classes=True):
    """Scores of evaluations (n, C, C): of their sum, or means over each, as a table prints them. The per-class scores
    are means over the evaluations in which the class occurs."""
    total = matrices.sum(axis=0)
    evaluations = matrices if averaged else total[None]
    pixels = np.ones(matrices.shape[-1])
    figures = [metrics.summary(one, pixels, None if averaged else metrics.counts_of(matrices)) for one in evaluations]
    means = {key: np.mean([f[key] for f in figures]) for key in SCALARS if key in figures[0]}
    per_class = [metrics.class_scores(metrics.counts_of(one)) for one in evaluations]
    found = {}
    for index in range(matrices.shape[-1]) if classes else ():
        scores = {m: metrics.mean(np.array([one[m][index] for one in per_class])) for m in MEASURES}
        found[f"c{index}"] = {m: printed(100 * v, digits) for m, v in scores.items() if not np.isnan(v)}
    return ScoreRow(
        "row", {k: printed(100 * v, digits) for k, v in means.items() if not np.isnan(v)}, found, averaged
    )  # fmt: skip


def failing(row):
    return {check.rule for check in check_row(row) if not check.holds}


@settings(deadline=None)
@given(counts, st.integers(0, 6))
def test_scores_of_one_confusion_matrix_are_possible_at_any_rounding(matrices, digits):
    assert failing(row_of(matrices, digits)) == set()


@settings(deadline=None)
@given(counts, st.integers(0, 6))
def test_means_over_seeds_are_possible_when_all_score_the_same_truth(matrices, digits):
    # Every seed scores the same split: the same classes in the truth. Those outside it may be predicted or not.
    truth = matrices.sum(axis=(0, 2)) > 0
    matrices = matrices + truth[:, None] * np.eye(len(truth), dtype=np.int64)
    matrices[:, ~truth] = 0
    assert failing(row_of(matrices, digits, averaged=True)) == set()


@settings(deadline=None)
@given(counts, st.integers(0, 4))
def test_means_that_leave_0_of_0_out_pass_what_is_said_of_iou(matrices, digits):
    """The rule of toolboxes that take a nanmean of precision and recall."""
    total = matrices.sum(axis=0)
    hit, predicted, true = np.diagonal(total), total.sum(axis=0), total.sum(axis=1)
    assume(hit.any())
    with np.errstate(invalid="ignore"):
        means = {
            "miou": np.nanmean(hit / (predicted + true - hit)),
            "mprecision": np.nanmean(hit / predicted),
            "mrecall": np.nanmean(hit / true),
        }
    assert failing(ScoreRow("row", {key: printed(100 * v, digits) for key, v in means.items()})) == set()


def test_by_hand():
    """TP 3, FP 1, FN 2 of one class."""
    assert iou_of(75.0, 60.0) == pytest.approx(50.0)
    assert f1_of_iou(50.0) == pytest.approx(200 / 3)
    assert f1_of(75.0, 60.0) == pytest.approx(200 / 3)
    assert iou_of(0.0, 60.0) == f1_of(0.0, 0.0) == 0.0


@settings(deadline=None)
@given(st.floats(0, 100), st.floats(0, 100))
def test_the_formulae_agree(precision, recall):
    assert f1_of_iou(iou_of(precision, recall)) == pytest.approx(f1_of(precision, recall))
    assert max(0.0, precision + recall - 100) - 1e-9 <= iou_of(precision, recall) <= min(precision, recall) + 1e-9


def test_the_mean_of_f1_is_below_that_of_the_mean_iou_not_above():
    """Jensen, for a concave function: classes of IoU 0 and 100 have mean F1 50, but 2 m/(1 + m) of the mean is 66.7."""
    row = row_of(np.array([[[5, 0, 0], [0, 0, 5], [0, 5, 0]]]))
    assert row.means["mf1"].value == pytest.approx(33.33)
    assert f1_of_iou(row.means["miou"].value) == pytest.approx(50, abs=0.01)
    assert failing(row) == set()


MATRICES = np.array([[[50, 3, 2], [4, 30, 6], [5, 1, 20]]] * 3)


def corrupted(key, value, of=None, **options):
    row = row_of(MATRICES, **options)
    if of is None:
        return replace(row, means={**row.means, key: printed(value, 2)})
    return replace(row, classes={**row.classes, of: {**row.classes[of], key: printed(value, 2)}})


SOUND = {key: score.value for key, score in row_of(MATRICES).means.items()}


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("macc", SOUND["mrecall"] + 0.02, "accuracy"),
        ("mrecall", SOUND["macc"] - 5, "accuracy"),
        ("image_macc", SOUND["image_mrecall"] + 1, "accuracy"),
        ("miou", min(SOUND["mprecision"], SOUND["mrecall"]) + 0.02, "iou_most"),
        ("image_miou", SOUND["image_mprecision"] + 5, "iou_most"),
        ("miou", SOUND["mprecision"] + SOUND["mrecall"] - 100 - 0.03, "iou_least"),
        ("mf1", f1_of_iou(SOUND["miou"]) + 0.03, "mf1_most"),
        ("mf1", SOUND["miou"] - 0.02, "mf1_least"),
        ("mf1", f1_of(SOUND["mprecision"], SOUND["mrecall"]) + 0.03, "mf1_pr"),
        ("fwiou", SOUND["pixel_accuracy"] + 0.02, "fwiou"),
        ("miou", SOUND["miou"] + 0.03, "class_mean"),
        ("mf1", SOUND["mf1"] - 0.03, "class_mean"),
        ("mprecision", 100.02, "range"),
        ("tail_miou", -0.02, "range"),
    ],
)
def test_a_corrupt_mean_is_found(key, value, rule):
    assert rule in failing(corrupted(key, value))


@pytest.mark.parametrize(
    ("key", "change", "rules"),
    [
        ("iou", +0.1, {"iou", "f1_iou", "class_mean"}),
        ("iou", +30, {"iou", "iou_most", "f1_iou", "class_mean"}),
        ("f1", -0.1, {"f1_iou", "f1_pr", "class_mean"}),
        ("accuracy", 0.1, {"accuracy", "class_mean"}),
        ("precision", 0.1, {"iou", "f1_pr", "class_mean"}),
        ("recall", 50, {"range", "accuracy", "iou", "f1_pr", "class_mean"}),
    ],
)
def test_a_corrupt_class_is_found(key, change, rules):
    value = row_of(MATRICES).classes["c1"][key].value + change
    found = [check for check in check_row(corrupted(key, value, of="c1")) if not check.holds]
    assert {check.rule for check in found} == rules
    assert {check.subject for check in found if check.rule != "class_mean"} == {"c1"}


@settings(deadline=None)
@given(counts, st.sampled_from(list(MEASURES)), st.floats(0.2, 80))
@example(MATRICES, "iou", 1.0)
def test_any_change_of_a_class_score_of_one_evaluation_is_found(matrices, key, change):
    row = row_of(matrices)
    name = next((n for n, scores in row.classes.items() if scores and scores["iou"].value > 1), None)
    assume(name is not None)
    scores = row.classes[name]
    # Where recall is 100 a large change of precision moves IoU as much; of a small precision, by little.
    changed = printed(scores[key].value + change, 2)
    assert failing(replace(row, classes={**row.classes, name: {**scores, key: changed}}))


def test_of_means_over_seeds_only_bounds_are_asked():
    """Seeds of IoU 20 and 80: the mean F1 is not that of the mean IoU."""
    seeds = np.array([[[20, 80], [0, 900]], [[80, 20], [0, 900]]])
    row = row_of(seeds, averaged=True)
    assert failing(row) == set()
    assert "f1_iou" in failing(replace(row, averaged=False))


def test_a_class_that_some_seeds_lack_may_count_in_part():
    """Class 2 is nowhere in the truth; one seed predicts it and scores 0, the other leaves it out of its mean."""
    seeds = np.array([[[9, 0, 1], [0, 10, 0], [0, 0, 0]], [[9, 1, 0], [0, 10, 0], [0, 0, 0]]])
    row = row_of(seeds, averaged=True)
    classes = [scores["iou"].value for scores in row.classes.values()]
    assert abs(row.means["miou"].value - np.mean(classes)) > 5
    assert failing(row) == set()
    assert "class_mean" in failing(replace(row, means={"miou": printed(np.mean(classes) - 1, 2)}))


@pytest.mark.parametrize(("recall", "wrong"), [("70.51", False), ("70.52", False), ("70.53", True), ("70.5", False)])
def test_the_tolerance_is_the_rounding_of_the_printed_digits(recall, wrong):
    digits = len(recall.partition(".")[2])
    row = ScoreRow("row", {"macc": printed(70.51, 2), "mrecall": printed(float(recall), digits)})
    assert failing(row) == ({"accuracy"} if wrong else set())


def test_a_check_says_what_by_how_much():
    (check,) = [
        c for c in check_row(ScoreRow("ce", {"macc": printed(76.33, 2), "mrecall": printed(77.86, 2)})) if not c.holds
    ]
    assert (check.row, check.score, check.printed, check.relation, check.expected) == (
        "ce", "mAcc", "76.33", "= mRec", "77.86",
    )  # fmt: skip
    assert check.off == pytest.approx(1.53)


def test_precision_alone_and_accuracy_in_place_of_recall_bound_iou():
    assert failing(ScoreRow("row", {"miou": printed(80, 2), "mprecision": printed(70, 2)})) == {"iou_most"}
    assert failing(ScoreRow("row", {"miou": printed(80, 2), "macc": printed(70, 2)})) == {"iou_most"}
    assert failing(ScoreRow("row", {"miou": printed(50, 2), "macc": printed(80, 2), "mprecision": printed(80, 2)})) == {
        "iou_least"
    }


def test_fractions_among_percentages():
    mixed = {"miou": Score.of(0.665, text="0.665"), "macc": Score.of(76.3, text="76.3")}
    assert fractions(ScoreRow("row", mixed)) == ["mIoU 0.665"]
    assert fractions(ScoreRow("row", {"miou": Score.of(0.6)})) == []


def test_every_rule_that_is_checked_is_explained():
    rules = {check.rule for averaged in (False, True) for check in check_row(row_of(MATRICES, averaged=averaged))}
    assert rules | {"sidecar", "image", "readable", "scored"} == set(WHY)
    assert all(math.isfinite(check.off) for check in check_row(row_of(MATRICES)))


def test_titles_are_short_and_unique():
    assert len({title(key) for key in SCALARS}) == len(SCALARS)
