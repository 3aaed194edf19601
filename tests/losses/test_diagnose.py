"""What DF and CDFL tell about themselves, against plain loops and autograd."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lossbench.losses import CrossDropoutFocalLoss, CrossEntropyLoss, DropoutFocalLoss, SumLoss
from lossbench.losses._diagnose import gradient_ratio, spread
from lossbench.registry import LossTerm
from tests.losses import reference
from tests.losses.batches import VOID, batch, batches, noisy, replay, value_and_grad


def nearest_rank(values: list[float]) -> float:
    """The least value that 99 % do not exceed."""
    for value in sorted(values):
        if 100 * sum(other <= value for other in values) >= 99 * len(values):
            return value
    return math.nan


def loops(values: Tensor, target: Tensor, classes: int) -> dict[str, Any]:
    pairs = [(float(v), int(y)) for v, y in zip(values.flatten(), target.flatten(), strict=True) if y != VOID]
    by_class = [[v for v, y in pairs if y == c] for c in range(classes)]
    everything = [v for v, _ in pairs]
    return {
        "u_mean": reference.mean(everything) if everything else math.nan,
        "u_p99": nearest_rank(everything),
        "u_mean_class": [reference.mean(v) if v else math.nan for v in by_class],
        "u_p99_class": [nearest_rank(v) for v in by_class],
    }


@settings(max_examples=60, deadline=None)
@given(batches(), st.booleans())
def test_spread_is_the_loops(data: tuple[Tensor, Tensor], ties: bool) -> None:
    logits, target = data
    classes = logits.shape[1]
    values = logits[:, 0].round() if ties else logits[:, 0]
    got = spread(values, target, target != VOID, classes, "u")
    expected = loops(values, target, classes)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name].tolist() == pytest.approx(value, rel=1e-6, abs=1e-9, nan_ok=True), name


def test_the_99th_percentile_of_many() -> None:
    values = torch.arange(1000.0)[torch.randperm(1000, generator=torch.Generator().manual_seed(0))].view(1, 20, 50)
    target = torch.zeros(1, 20, 50, dtype=torch.int64)
    got = spread(values, target, target == 0, 2, "u")
    assert got["u_p99"] == 989  # 990 of 1000 values are at most that
    assert got["u_p99_class"][0] == 989
    assert got["u_p99_class"].isnan().tolist() == [False, True]


def test_spread_of_nothing() -> None:
    target = torch.full((1, 2, 2), VOID)
    got = spread(torch.zeros(1, 2, 2), target, target != VOID, 3, "u")
    assert all(value.isnan().all() for value in got.values())


@settings(max_examples=30, deadline=None)
@given(batches(torch.float64), st.floats(0.0, 2.0), st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from(["raw", "unit"]))
def test_the_gradient_ratio_is_autograds(data: tuple[Tensor, Tensor], omega: float, gamma: float, u_scale: str) -> None:
    logits, target = data
    drawn = noisy(logits)
    df = DropoutFocalLoss(gamma=gamma, u_scale=u_scale)
    cdfl = CrossDropoutFocalLoss(omega=omega, gamma=gamma, u_scale=u_scale)
    _, grad_df = value_and_grad(lambda z: df(z, target, replay(drawn)), logits)
    _, grad_ce = value_and_grad(lambda z: CrossEntropyLoss()(z, target), logits)
    cdfl(logits, target, replay(drawn))
    ce_norm = float(grad_ce.norm())
    if ce_norm < 1e-12:  # nothing to divide by
        return
    expected = float(grad_df.norm()) / ce_norm
    assert float(df.diagnose(logits, target)["grad_ratio"]) == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert float(cdfl.diagnose(logits, target)["grad_ratio"]) == pytest.approx(omega * expected, rel=1e-6, abs=1e-12)


def test_sure_pixels_do_not_cancel() -> None:
    logits = torch.tensor([40.0, 0.0]).view(1, 2, 1, 1).repeat(1, 1, 1, 2)
    logits[..., 1] = torch.tensor([1.0, 0.0]).view(1, 2, 1)
    target = torch.zeros(1, 1, 2, dtype=torch.int64)
    weight = torch.tensor([[[0.0, 0.25]]])
    assert gradient_ratio(logits, target, target == 0, weight) == pytest.approx(0.25)


@pytest.mark.parametrize("options", [{}, {"grad_through_u": True}, {"log_p": "mc_mean"}, {"u_scale": "unit"}], ids=str)
def test_cdfl_tells_all(options: dict[str, Any]) -> None:
    logits, target = batch(size=(3, 5, 6))
    drawn = [z.requires_grad_() for z in noisy(logits)]
    loss = CrossDropoutFocalLoss(omega=0.5, **options)
    assert loss.diagnose(logits, target) == {}
    loss(logits.clone().requires_grad_(), target, replay(drawn))
    told = loss.diagnose(logits, target)
    scale = options.get("u_scale", "raw")
    terms = list(reference.dropout_terms(logits, target, drawn, u_scale=scale))
    u = torch.full(target.shape, math.nan, dtype=torch.float64)
    u[target != VOID] = torch.tensor([value for value, _, _ in terms], dtype=torch.float64)
    for name, expected in loops(u, target, 4).items():
        assert told[name].tolist() == pytest.approx(expected, rel=1e-9, nan_ok=True), name
    assert float(told["u_max"]) == pytest.approx(max(value for value, _, _ in terms))
    df = reference.dropout_focal(logits, target, drawn, u_scale=scale, log_p=options.get("log_p", "main"))
    assert float(told["df_ce_ratio"]) == pytest.approx(df / reference.cross_entropy(logits, target))
    assert set(told) == {
        *("u_mean", "u_p99", "u_max", "u_mean_class", "u_p99_class", "df_ce_ratio", "grad_ratio"),
    }
    assert not any(value.requires_grad for value in told.values())


def test_a_sum_passes_it_on() -> None:
    logits, target = batch()
    loss = SumLoss(terms=[LossTerm(CrossEntropyLoss(), 1.0, "ce"), LossTerm(DropoutFocalLoss(), 0.1, "df")])
    loss(logits, target, replay(noisy(logits)))
    assert {"df.u_mean_class", "df.grad_ratio"} <= loss.diagnose(logits, target).keys()
