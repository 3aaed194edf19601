"""U-CE: against plain loops, its identities, its diagnostics."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lossbench.errors import ConfigError, ParameterError
from lossbench.losses import CrossEntropyLoss, UncertaintyAwareCrossEntropy
from tests.losses import reference
from tests.losses.batches import batch, batches, noisy, replay, value_and_grad

quick = settings(max_examples=30, deadline=None)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 10.0])
@pytest.mark.parametrize("passes", [1, 2, 10])
def test_it_is_the_loops(alpha: float, passes: int) -> None:
    logits, target = batch()
    drawn = noisy(logits, passes)
    terms = reference.dropout_terms(logits, target, drawn, u_at="predicted")
    expected = reference.mean([(1 + math.sqrt(u)) ** alpha * -log_p for u, log_p, _ in terms])
    loss = UncertaintyAwareCrossEntropy(alpha=alpha, passes=passes)
    assert loss(logits, target, replay(drawn)).item() == pytest.approx(expected, rel=1e-9)


def test_papers_defaults() -> None:
    loss = UncertaintyAwareCrossEntropy()
    assert (loss.alpha, loss.passes, loss.extra_forwards) == (10.0, 10, 10)


@quick
@given(batches())
def test_alpha_0_is_ce_in_every_bit(data: tuple[Tensor, Tensor]) -> None:
    logits, target = data
    loss = UncertaintyAwareCrossEntropy(alpha=0.0)
    value, grad = value_and_grad(lambda z: loss(z, target, replay(noisy(logits))), logits)
    expected, expected_grad = value_and_grad(lambda z: CrossEntropyLoss()(z, target), logits)
    assert torch.equal(value, expected)
    assert torch.equal(grad, expected_grad)


@quick
@given(batches(), st.integers(1, 12))
def test_equal_passes_are_ce_and_others_weigh_at_most_1_5_to_alpha(data: tuple[Tensor, Tensor], passes: int) -> None:
    logits, target = data
    loss = UncertaintyAwareCrossEntropy(passes=passes)
    ce = CrossEntropyLoss()(logits, target)
    assert torch.equal(loss(logits, target, lambda: logits), ce)
    assert ce <= loss(logits, target, replay(noisy(logits, sd=3.0))) * (1 + 1e-6)
    assert loss(logits, target, replay(noisy(logits, sd=3.0))) <= ce * 1.5**10 * (1 + 1e-6)


def test_sigma_carries_no_gradient() -> None:
    logits, target = batch()
    drawn = [z.requires_grad_() for z in noisy(logits)]
    loss = UncertaintyAwareCrossEntropy(passes=5)
    leaf = logits.clone().requires_grad_()
    grads = torch.autograd.grad(loss(leaf, target, replay(drawn)), [leaf, *drawn], allow_unused=True)
    assert grads[0] is not None
    assert all(grad is None for grad in grads[1:])


def test_what_it_tells() -> None:
    logits, target = batch()
    drawn = noisy(logits, 10)
    loss = UncertaintyAwareCrossEntropy(alpha=3.0)
    assert loss.diagnose(logits, target) == {}
    value, grad = value_and_grad(lambda z: loss(z, target, replay(drawn)), logits)
    ce, ce_grad = value_and_grad(lambda z: CrossEntropyLoss()(z, target), logits)
    told = loss.diagnose(logits, target)
    assert float(told["weight_mean"]) == pytest.approx(float(value / ce))
    assert float(told["grad_ratio"]) == pytest.approx(float(grad.norm() / ce_grad.norm()))
    sigma = [math.sqrt(u) for u, _, _ in reference.dropout_terms(logits, target, drawn, u_at="predicted")]
    assert float(told["sigma_mean"]) == pytest.approx(reference.mean(sigma))
    assert told["sigma_p99_class"].shape == told["sigma_mean_class"].shape == (4,)


def test_wrong_use() -> None:
    logits, target = batch()
    with pytest.raises(ConfigError, match="uce needs a third argument, resample"):
        UncertaintyAwareCrossEntropy()(logits, target)
    for wrong in ({"alpha": -1.0}, {"passes": 0}):
        with pytest.raises(ParameterError, match="uce: "):
            UncertaintyAwareCrossEntropy(**wrong)
