"""metrics.py against plain loops, torchmetrics, and the Cityscapes evaluator; and its algebra as properties."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchmetrics.functional import classification as tm

from lossbench import metrics
from lossbench.errors import DataError


def label_maps(seed, classes, shape=(40, 50), void=0.1, ignore_index=255):
    """Correlated random maps in which, for classes > 3, the last class is in neither, the last but one only
    in the prediction, and the last but two only in the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, max(classes - 2, 1), shape)
    guess = np.where(rng.random(shape) < 0.6, truth, rng.integers(0, max(classes - 2, 1), shape))
    if classes > 3:
        guess[guess == classes - 3] = classes - 2
    truth[rng.random(shape) < void] = ignore_index
    return truth, guess


def loop_confusion(truth, guess, classes, ignore_index):
    matrix = [[0] * classes for _ in range(classes)]
    for t, p in zip(truth.ravel().tolist(), guess.ravel().tolist(), strict=True):
        if t != ignore_index:
            matrix[t][p] += 1
    return matrix


def loop_scores(matrix):
    """Definitions of the paper (eq. 7-10), one class at a time, with the module's rule for 0/0."""
    classes = len(matrix)
    out = {"iou": [], "precision": [], "recall": [], "f1": []}
    for c in range(classes):
        hit = matrix[c][c]
        row, column = sum(matrix[c]), sum(matrix[r][c] for r in range(classes))
        if row + column == 0:
            for values in out.values():
                values.append(math.nan)
            continue
        out["iou"].append(hit / (row + column - hit))
        out["precision"].append(hit / column if column else 0.0)
        out["recall"].append(hit / row if row else 0.0)
        out["f1"].append(2 * hit / (row + column))
    return out


# --- counting ---


@pytest.mark.parametrize("classes", [1, 2, 3, 8, 19, 150])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.int16])
def test_confusion_matrix_is_the_loop(classes, dtype):
    truth, guess = label_maps(classes, classes)
    made = metrics.confusion_matrix(truth.astype(dtype), guess.astype(dtype), classes)
    assert made.dtype == np.int64
    assert made.tolist() == loop_confusion(truth, guess, classes, 255)


@pytest.mark.parametrize("ignore_index", [255, -1, -100, 0, 2])
def test_confusion_matrix_with_any_ignore_index(ignore_index):
    truth, guess = label_maps(3, 6, ignore_index=ignore_index)
    made = metrics.confusion_matrix(truth, guess, 6, ignore_index)
    assert made.tolist() == loop_confusion(truth, guess, 6, ignore_index)


def test_predictions_at_ignored_pixels_may_be_anything():
    truth = np.array([0, 1, 255], dtype=np.uint8)
    guess = np.array([0, 1, 200], dtype=np.uint8)
    assert metrics.confusion_matrix(truth, guess, 2).tolist() == [[1, 0], [0, 1]]


def test_all_ignored_is_an_empty_matrix():
    assert metrics.confusion_matrix(np.full((3, 3), 255), np.zeros((3, 3), int), 4).sum() == 0


@pytest.mark.parametrize(
    ("truth", "guess", "words"),
    [
        ([[0, 7]], [[0, 0]], "target holds id 7"),
        ([[0, -3]], [[0, 0]], "target holds id -3"),
        ([[0, 1]], [[0, 5]], "prediction holds id 5"),
        ([[0, 1]], [[0]], "differ in shape"),
        ([[0.0, 1.0]], [[0, 1]], "must be integers"),
    ],
)
def test_bad_labels_are_named(truth, guess, words):
    with pytest.raises(DataError, match=words):
        metrics.confusion_matrix(truth, guess, 2)


@pytest.mark.parametrize("classes", [2, 5, 19])
def test_equals_torchmetrics(classes):
    truth, guess = label_maps(7, classes, shape=(64, 64))
    matrix = metrics.confusion_matrix(truth, guess, classes)
    target, prediction = torch.from_numpy(truth)[None], torch.from_numpy(guess)[None]
    common = {"num_classes": classes, "ignore_index": 255}
    theirs = tm.multiclass_confusion_matrix(prediction, target, **common)
    assert matrix.tolist() == theirs.tolist()
    ours = metrics.summary(matrix, [1] * classes)
    macro = {**common, "average": "macro"}
    assert ours["mprecision"] == pytest.approx(float(tm.multiclass_precision(prediction, target, **macro)), abs=1e-6)
    assert ours["mrecall"] == pytest.approx(float(tm.multiclass_recall(prediction, target, **macro)), abs=1e-6)
    assert ours["mf1"] == pytest.approx(float(tm.multiclass_f1_score(prediction, target, **macro)), abs=1e-6)
    micro = tm.multiclass_accuracy(prediction, target, average="micro", **common)
    assert ours["pixel_accuracy"] == pytest.approx(float(micro), abs=1e-6)
    per_class = tm.multiclass_jaccard_index(prediction, target, average="none", **common)
    assert np.nan_to_num(metrics.iou(matrix)) == pytest.approx(np.nan_to_num(per_class.numpy()), abs=1e-6)
    assert ours["miou"] == pytest.approx(float(tm.multiclass_jaccard_index(prediction, target, **macro)), abs=1e-6)
    weighted = tm.multiclass_jaccard_index(prediction, target, average="weighted", **common)
    assert ours["fwiou"] == pytest.approx(float(weighted), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_cityscapes_evaluator(seed, tmp_path):
    """Their matrix runs over the 34 label ids; ours over the 19 train ids. Predictions are evaluated ids."""
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
    from cityscapesscripts.helpers.labels import labels
    from PIL import Image

    rng = np.random.default_rng(seed)
    ids = np.array([label.id for label in labels if label.id >= 0])
    scored = [label for label in labels if not label.ignoreInEval and label.id >= 0]
    keep = np.array([label.id for label in scored if label.name not in ("train", "bus")])
    truth = rng.choice(np.setdiff1d(ids, [31, 28]), (60, 80)).astype(np.uint8)
    # "bus" is predicted but never true; "train" is in neither.
    guess = np.where(
        np.isin(truth, keep) & (rng.random(truth.shape) < 0.6), truth, rng.choice([*keep, 28], truth.shape)
    )
    Image.fromarray(truth).save(tmp_path / "truth.png")
    Image.fromarray(guess.astype(np.uint8)).save(tmp_path / "guess.png")

    args = SimpleNamespace(evalInstLevelScore=False, evalPixelAccuracy=False)
    matrix = official.generateMatrix(args)
    official.evaluatePair(str(tmp_path / "guess.png"), str(tmp_path / "truth.png"), matrix, {}, {}, args)
    theirs = {label.name: official.getIouScoreForLabel(label.id, matrix, args) for label in scored}

    table = np.full(256, 255)
    for label in scored:
        table[label.id] = label.trainId
    ours = metrics.confusion_matrix(table[truth], table[guess], 19)
    by_name = {label.name: metrics.iou(ours)[label.trainId] for label in scored}
    assert math.isnan(theirs["train"])
    assert theirs["bus"] == 0
    for name, value in theirs.items():
        assert by_name[name] == pytest.approx(value, rel=1e-12, nan_ok=True)
    assert float(metrics.mean(metrics.iou(ours))) == pytest.approx(official.getScoreAverage(theirs, args), rel=1e-12)


# --- scores ---


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_the_loop(seed):
    classes = 3 + seed
    truth, guess = label_maps(seed, classes)
    matrix = metrics.confusion_matrix(truth, guess, classes)
    expected = loop_scores(matrix.tolist())
    for name, values in expected.items():
        assert getattr(metrics, name)(matrix) == pytest.approx(np.array(values), nan_ok=True)
    present = [v for v in expected["iou"] if not math.isnan(v)]
    assert metrics.summary(matrix, [1] * classes)["miou"] == pytest.approx(sum(present) / len(present))


def test_the_rule_for_classes_without_pixels():
    #        in both; only in the truth; only predicted; in neither
    matrix = np.array([[8, 0, 2, 0], [4, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert metrics.iou(matrix) == pytest.approx([8 / 14, 0, 0, np.nan], nan_ok=True)
    assert metrics.precision(matrix) == pytest.approx([8 / 12, 0, 0, np.nan], nan_ok=True)
    assert metrics.recall(matrix) == pytest.approx([8 / 10, 0, 0, np.nan], nan_ok=True)
    assert metrics.summary(matrix, [4, 3, 2, 1])["mprecision"] == pytest.approx((8 / 12) / 3)


def test_nothing_scored_is_nan_without_a_warning():
    figures = metrics.summary(np.zeros((3, 3), int), [1, 1, 1], np.zeros((2, 3, 3), int))
    assert all(math.isnan(value) for value in figures.values())


def test_mean_accuracy_is_mean_recall_over_the_pooled_matrix_and_image_averages_differ():
    rng = np.random.default_rng(0)
    matrices = rng.integers(0, 50, (6, 5, 5)) * (rng.random((6, 5, 1)) < 0.7)
    per_image = metrics.counts_per_image(matrices)
    figures = metrics.summary(matrices.sum(0), [5, 4, 3, 2, 1], per_image)
    assert figures["macc"] == figures["mrecall"]
    assert figures["image_macc"] == figures["image_mrecall"] != figures["mrecall"]


def test_image_averages_are_the_loops():
    rng = np.random.default_rng(1)
    matrices = rng.integers(0, 9, (7, 4, 4)) * (rng.random((7, 4, 4)) < 0.4)
    matrices[3] = 0  # an image without a labelled pixel counts nowhere
    by_image, by_class = [], [[] for _ in range(4)]
    for matrix in matrices.tolist():
        values = loop_scores(matrix)["iou"]
        present = [v for v in values if not math.isnan(v)]
        if present:
            by_image.append(sum(present) / len(present))
        for c, value in enumerate(values):
            if not math.isnan(value):
                by_class[c].append(value)
    got = metrics.image_averages(metrics.counts_per_image(matrices))
    assert got["image_miou"] == pytest.approx(sum(by_image) / len(by_image))
    assert got["image_class_miou"] == pytest.approx(np.mean([np.mean(v) for v in by_class if v]))


def test_frequency_weighted_iou_is_the_loop():
    matrix = np.random.default_rng(2).integers(0, 99, (6, 6))
    rows, ious = matrix.sum(1), loop_scores(matrix.tolist())["iou"]
    expected = sum(r * i for r, i in zip(rows, ious, strict=True)) / matrix.sum()
    assert float(metrics.frequency_weighted_iou(matrix)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("classes", "sizes"),
    [(1, (0, 1, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (4, (1, 2, 1)), (11, (4, 3, 4)), (19, (6, 7, 6))],
)
def test_thirds_of_classes(classes, sizes):
    groups = metrics.frequency_groups(list(range(1, classes + 1)))
    assert tuple(len(groups[g]) for g in ("head", "middle", "tail")) == sizes
    assert sorted(np.concatenate(list(groups.values())).tolist()) == list(range(classes))
    if classes > 1:
        assert groups["head"][0] == classes - 1  # the commonest
        assert groups["tail"][-1] == 0


def test_ties_of_frequency_go_by_index():
    groups = metrics.frequency_groups([5, 5, 5])
    assert {name: g.tolist() for name, g in groups.items()} == {"head": [0], "middle": [1], "tail": [2]}


def test_group_means_are_means_of_their_classes():
    matrix = np.random.default_rng(3).integers(1, 99, (6, 6))
    figures = metrics.summary(matrix, [6, 5, 4, 3, 2, 1])
    ious = metrics.iou(matrix)
    assert figures["head_miou"] == pytest.approx(ious[:2].mean())
    assert figures["tail_miou"] == pytest.approx(ious[4:].mean())


def test_per_image_counts_need_one_matrix_an_image():
    with pytest.raises(DataError, match="n_images, C, C"):
        metrics.counts_per_image(np.zeros((3, 3), int))


# --- algebra ---

matrices = st.integers(1, 7).flatmap(lambda c: arrays(np.int64, (c, c), elements=st.sampled_from([0, 0, 1, 3, 10**6])))


@given(matrices)
@settings(deadline=None, max_examples=100)
def test_bounds_and_orders(matrix):
    scores = metrics.class_scores(metrics.counts_of(matrix))
    absent = matrix.sum(0) + matrix.sum(1) == 0
    for values in scores.values():
        assert (np.isnan(values) == absent).all()
        assert ((values[~absent] >= 0) & (values[~absent] <= 1)).all()
    iou = scores["iou"][~absent]
    assert (iou <= np.minimum(scores["precision"], scores["recall"])[~absent] + 1e-12).all()
    assert scores["f1"][~absent] == pytest.approx(2 * iou / (1 + iou))
    figures = metrics.summary(matrix, [1] * len(matrix))
    if matrix.sum():
        assert figures["miou"] <= min(figures["mprecision"], figures["mrecall"]) + 1e-12
        assert figures["miou"] <= figures["mf1"] + 1e-12


@given(matrices, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_renaming_classes_renames_scores(matrix, random):
    order = list(range(len(matrix)))
    random.shuffle(order)
    pixels = np.arange(len(matrix))[::-1] + 1
    permuted = matrix[np.ix_(order, order)]
    assert metrics.iou(permuted) == pytest.approx(metrics.iou(matrix)[order], nan_ok=True)
    before, after = metrics.summary(matrix, pixels), metrics.summary(permuted, pixels[order])
    assert after == pytest.approx(before, nan_ok=True)


@given(st.integers(0, 2**31), st.integers(1, 6))
@settings(deadline=None, max_examples=30)
def test_counting_is_additive_over_pixels(seed, classes):
    truth, guess = label_maps(seed, classes, shape=(12, 10))
    whole = metrics.confusion_matrix(truth, guess, classes)
    halves = [
        metrics.confusion_matrix(t, g, classes) for t, g in zip(np.split(truth, 2), np.split(guess, 2), strict=True)
    ]
    assert (whole == sum(halves)).all()
    counts = metrics.counts_per_image(np.stack(halves))
    assert (counts.sum(0) == metrics.counts_of(whole)).all()


def test_a_stack_of_matrices_is_scored_at_once():
    stack = np.random.default_rng(4).integers(0, 9, (3, 2, 5, 5))
    for name in ("iou", "precision", "recall", "f1", "accuracy", "pixel_accuracy", "frequency_weighted_iou"):
        function = getattr(metrics, name)
        whole = function(stack)
        single = np.array([[function(matrix) for matrix in row] for row in stack])
        assert whole == pytest.approx(single, nan_ok=True)
