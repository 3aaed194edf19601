from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.container import BarContainer, ErrorbarContainer

from lossbench import metrics
from lossbench.figures import classes
from lossbench.figures.make import make_classes
from lossbench.leaderboard import build
from lossbench.standings import Block
from lossbench.store import Store
from tests.factories import CLASSES, SHARES, make_record, put


def test_the_numbers_are_those_of_the_records(store: Store, block: Block) -> None:
    scores = classes.class_scores(block)
    assert scores.classes == list(CLASSES)  # the factory's classes are in the order of their pixels
    assert scores.shares == pytest.approx(100 * np.array(SHARES) / sum(SHARES))
    records = [stored.record for stored in store.read_all()[0] if stored.record.labels["loss"] == "focal"]
    ious = np.array([100 * metrics.iou(record.confusion) for record in records])
    place = scores.losses.index("focal")
    assert scores.mean[place] == pytest.approx(ious.mean(axis=0))
    assert scores.sd[place] == pytest.approx(ious.std(axis=0, ddof=1))
    assert scores.miou[place] == pytest.approx(ious.mean())


def test_classes_are_ordered_by_frequency(tmp_path) -> None:
    store = Store(tmp_path)
    put(store, class_names=("few", "many", "some"), shares=(10, 1000, 100))
    (block,) = build(store.runs()[0])
    assert classes.class_scores(block).classes == ["many", "some", "few"]


def test_one_bar_per_loss_and_class_and_the_mean(block: Block) -> None:
    figure = make_classes(block, style="bars").figure
    (axes,) = figure.axes
    bars = [each for each in axes.containers if isinstance(each, BarContainer)]
    assert [len(each) for each in bars] == [9] * 6
    heights = [bar.get_height() for bar in bars[0]]
    scores = classes.class_scores(block)
    assert heights == pytest.approx([*scores.mean[0], scores.miou[0]])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [*CLASSES, "mean"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == scores.losses
    whiskers = [each for each in axes.containers if isinstance(each, ErrorbarContainer)]
    assert len(whiskers) == 6
    assert axes.get_ylim()[0] == 0
    lefts = np.array([[bar.get_x() for bar in each] for each in bars])
    assert (np.diff(lefts, axis=0) > 0).all()  # side by side in the legend's order
    assert (lefts[-1, :-1] + bars[0][0].get_width() < lefts[0, 1:]).all()  # classes do not touch


def test_shares_of_the_pixels_are_shown(block: Block) -> None:
    (axes,) = make_classes(block).figure.axes
    (above,) = axes.child_axes
    assert [tick.get_text() for tick in above.get_xticklabels()] == [
        "41", "26", "15", "10", "5.2", "1.2", "0.62", "0.083", "",
    ]  # fmt: skip


def test_dots_have_whiskers_of_one_sd(block: Block) -> None:
    (axes,) = make_classes(block, style="dots").figure.axes
    scores = classes.class_scores(block)
    points = [each for each in axes.containers if isinstance(each, ErrorbarContainer)]
    low, high = points[2].lines[2][0].get_segments()[4]
    assert (high[1] - low[1]) / 2 == pytest.approx(scores.sd[2, 4], rel=1e-6)
    assert points[2].lines[0].get_ydata()[4] == pytest.approx(scores.mean[2, 4])


@pytest.mark.parametrize(
    ("losses", "number", "width", "style"),
    [(6, 11, 7.16, "bars"), (14, 11, 7.16, "dots"), (8, 19, 7.16, "dots"), (3, 19, 7.16, "bars"), (6, 11, 3.5, "dots")],
)
def test_bars_only_where_they_can_be_told_apart(losses: int, number: int, width: float, style: str) -> None:
    assert classes.default_style(losses, number, width) == style


def test_many_classes_go_on_below(tmp_path) -> None:
    store = Store(tmp_path)
    names = tuple(f"class {i}" for i in range(59))
    for loss in ("ce", "focal"):
        put(store, loss=loss, class_names=names, shares=tuple(range(1000, 5000, 68))[:59])
    (block,) = build(store.runs()[0])
    figure = make_classes(block).figure
    shown = [tick.get_text().replace("\n", " ") for axes in figure.axes for tick in axes.get_xticklabels()]
    assert shown == [*classes.class_scores(block).classes, "mean"]
    assert len(figure.axes) > 1
    assert len({axes.get_xlim() for axes in figure.axes}) == 1  # bars are as wide everywhere
    assert figure.get_figwidth() == 7.16


def test_a_class_nowhere_in_sight_is_said_to_be_absent(tmp_path) -> None:
    store = Store(tmp_path)
    put(store, class_names=("a", "b", "c"), shares=(500, 300, 0), quality=1.0)
    (block,) = build(store.runs()[0])
    drawing = make_classes(block)
    assert "absent" in [text.get_text() for text in drawing.figure.axes[0].texts]
    assert [entry["iou"] for entry in drawing.data if entry["class"] == "c"] == [None]


def test_the_caption_says_seeds_split_and_protocol(block: Block) -> None:
    drawing = make_classes(block)
    for word in ("3 seeds (0, 1, 2)", "val split", "400 iterations", "streets / fcn_timm", "sd over seeds"):
        assert word in drawing.caption
    assert len(drawing.records) == 18


def test_n_counts_the_seeds_that_have_the_class(tmp_path) -> None:
    store = Store(tmp_path)
    for seed in (0, 1, 2):
        cell, record, counts = make_record(seed=seed, class_names=("a", "b", "c"), shares=(500, 300, 0))
        if seed == 1:  # the class is in no truth, but predicted once
            record.confusion[0] += [-1, 0, 1]
            counts[0] += np.array([[-1, 0, 1], [0, 0, 0], [0, 1, 0]], np.int32)
        store.write(cell, record, counts, [f"image_{i}" for i in range(len(counts))])
    (block,) = build(store.runs()[0])
    assert [entry["n"] for entry in classes.class_scores(block).to_json()] == [3, 3, 1]


def test_runs_that_scored_nothing_are_told(tmp_path) -> None:
    store = Store(tmp_path)
    for loss, seed in itertools.product(("ce", "df"), (0, 1)):
        cell, record, counts = make_record(loss=loss, seed=seed)
        if (loss, seed) == ("df", 1):
            record, counts = replace(record, confusion=0 * record.confusion), 0 * counts
        store.write(cell, record, counts, [f"image_{i}" for i in range(len(counts))])
    (block,) = build(store.runs()[0])
    drawing = make_classes(block)
    assert "scored no pixel at all" in drawing.caption
    assert "df (1 of 2)" in drawing.caption
    assert {entry["n"] for entry in drawing.data if entry["loss"] == "df"} == {1}
