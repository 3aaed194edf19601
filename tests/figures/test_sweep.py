from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lossbench.errors import ConfigError
from lossbench.figures.make import make_sweep
from lossbench.figures.sweep import metric_over_parameter
from lossbench.leaderboard import build
from lossbench.standings import Block
from lossbench.store import Store
from tests.factories import put


@pytest.fixture
def blocks(tmp_path) -> list[Block]:
    return build(board(Store(tmp_path)).runs()[0])


def board(store: Store) -> Store:
    for loss, quality in (("ce", 0.8), ("focal", 0.7)):
        for imbalance in (1000.0, 10.0, 100.0):
            for seed in (0, 1, 2):
                put(store, loss=loss, seed=seed, quality=quality + 0.01 * seed - imbalance / 5000,
                    dataset_params={"imbalance": imbalance, "height": 96})  # fmt: skip
    return store


def test_a_series_per_loss_and_metric_by_rising_value(blocks: list[Block]) -> None:
    series = metric_over_parameter(blocks, "imbalance")
    assert [(each.metric, each.label) for each in series] == [
        ("miou", "ce"), ("miou", "focal"), ("tail_miou", "ce"), ("tail_miou", "focal"),
    ]  # fmt: skip
    assert all(each.x.tolist() == [10, 100, 1000] for each in series)
    at_ten = next(block for block in blocks if "imbalance=10," in block.dataset)
    values = next(row for row in at_ten.rows if row.label == "ce").runs.values("miou")
    assert series[0].mean[0] == pytest.approx(values.mean())
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert series[0].half_width[0] == pytest.approx((high - low) / 2)


def test_the_graphs(blocks: list[Block]) -> None:
    drawing = make_sweep(blocks, "imbalance", metrics=["miou", "mf1", "tail_miou"])
    axes = drawing.figure.axes
    assert [each.get_ylabel() for each in axes] == ["mIoU (%)", "mF1 (%)", "tail mIoU (%)"]
    assert axes[0].get_xscale() == "log"
    assert [tick.get_text() for tick in axes[0].get_xticklabels()] == ["10", "100", "1000"]
    assert len(axes[0].containers) == 2
    apart = axes[0].containers[0].lines[0].get_xdata() / axes[0].containers[1].lines[0].get_xdata()
    assert np.unique(np.round(apart, 9)).size == 1  # moved aside by the same share
    assert 0.8 < apart[0] < 1
    assert "95 % t interval" in drawing.caption
    assert {entry["n"] for entry in drawing.data} == {3}


@pytest.mark.parametrize(
    ("more", "parameter", "message"),
    [
        ({"dataset_params": {"imbalance": 10.0, "height": 48}}, "imbalance", "differ in more than 'imbalance'"),
        ({"dataset_params": {"imbalance": 10.0, "height": 96}, "backbone": "smp"}, "imbalance", "several backbones"),
        ({"dataset_params": {"imbalance": 10.0, "height": 96}, "protocol": {"lr": 0.5}}, "imbalance", "2 protocols"),
        ({"dataset_params": {"imbalance": 50.0, "height": 96}, "protocol": {"lr": 0.5}}, "imbalance", "protocols: lr"),
        ({}, "imbalanc", "no parameter 'imbalanc'"),
        ({}, "height", "all runs have the same|differ in more"),
    ],
)
def test_only_what_may_be_compared(tmp_path, more, parameter, message) -> None:
    store = board(Store(tmp_path))
    if more:
        put(store, **more)
    with pytest.raises(ConfigError, match=message) as caught:
        metric_over_parameter(build(store.runs()[0]), parameter)
    assert caught.value.hint


def test_an_unknown_score(blocks: list[Block]) -> None:
    with pytest.raises(ConfigError, match="'tail_mio' is no score") as caught:
        metric_over_parameter(blocks, "imbalance", ["tail_mio"])
    assert caught.value.hint == "did you mean 'tail_miou'?"
    with pytest.raises(ConfigError, match="'ms_per_step' is no score"):
        metric_over_parameter(blocks, "imbalance", ["ms_per_step"])


def test_one_value_is_no_sweep(tmp_path) -> None:
    store = Store(tmp_path)
    put(store, dataset_params={"imbalance": 10.0})
    with pytest.raises(ConfigError, match="all runs have the same 'imbalance': 10"):
        metric_over_parameter(build(store.runs()[0]), "imbalance")
