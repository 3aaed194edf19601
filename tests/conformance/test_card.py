"""The loss card: its numbers against plain loops, and what it says of losses known to be odd."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from lossbench.conformance.losses.card import absent_class, loss_card, precision
from lossbench.conformance.losses.cost import costs
from lossbench.conformance.losses.inputs import SHAPES
from lossbench.conformance.losses.scene import scene
from lossbench.conformance.losses.subject import LossSubject
from lossbench.registry import Registry

LOSSES = Registry("loss", plugins=[Path(__file__).with_name("broken_losses.py")])


def subject(name: str, **params: object) -> LossSubject:
    return LossSubject(LOSSES.get(name), params)


def test_the_trained_network_has_learnt_and_the_untrained_has_not() -> None:
    scene.cache_clear()
    before = torch.get_rng_state()
    shown = scene()
    assert torch.equal(before, torch.get_rng_state()), "it leaves the generator alone"
    accuracy = []
    for batch in (shown.untrained, shown.trained):
        right = (batch.logits.argmax(1) == batch.target)[batch.valid]
        accuracy.append(float(right.double().mean()))
        assert len(batch.passes) == 10
        assert not torch.equal(batch.passes[0], batch.passes[1])
    assert accuracy[0] < 0.5 < 0.7 < accuracy[1]
    assert len(shown.rare) == len(shown.counts) // 3
    rarest = sum(shown.counts[label] for label in shown.rare)
    assert rarest < 0.06 * sum(shown.counts)


def test_cross_entropy_beside_itself() -> None:
    for row in loss_card(subject("ce"), []).standing:
        assert row.value == pytest.approx(row.ce, rel=1e-5)
        assert row.gradient == pytest.approx(1, rel=1e-4)
        assert row.rare == pytest.approx(row.ce_rare, rel=1e-4)


def test_numbers_are_those_of_a_plain_computation() -> None:
    """Weighted cross-entropy by torch, and the share of its gradient on rare classes counted out."""
    shown = scene()
    params = {"weights": [float(label + 1) for label in range(12)], "normalise": "pixels"}
    row = loss_card(subject("weighted_ce", **params), []).standing[1]
    logits = shown.trained.logits.clone().requires_grad_()
    losses = functional.cross_entropy(
        logits, shown.trained.target, torch.tensor(params["weights"]), ignore_index=255, reduction="sum"
    )
    grad = torch.autograd.grad(losses / shown.trained.valid.sum(), logits)[0]
    rare = sum(float(grad.movedim(1, -1)[shown.trained.target == label].abs().sum()) for label in shown.rare)
    scale = row.value / float(losses.detach() / shown.trained.valid.sum())  # weights may be normalised to a mean of 1
    assert row.rare == pytest.approx(rare / float(grad.abs().sum()), rel=1e-3)
    ce = torch.autograd.grad(functional.cross_entropy(logits, shown.trained.target, ignore_index=255), logits)[0]
    assert row.gradient == pytest.approx(scale * float(grad.norm() / ce.norm()), rel=1e-3)


def test_parameters_for_another_number_of_classes_are_said() -> None:
    card = loss_card(subject("focal", alpha=[0.1, 0.2, 0.3]), [])
    assert card.standing == []
    assert card.note == "its parameters are for 3 classes, streets has 12"
    assert {cost.shape[1] for cost in costs(subject("focal", alpha=[0.1, 0.2, 0.3]))} == set()


def test_needs() -> None:
    cdfl, seesaw = loss_card(subject("cdfl"), []), loss_card(subject("seesaw"), [])
    assert (cdfl.passes, cdfl.state, "class_counts" in cdfl.facts) == (5, [], False)
    assert seesaw.state
    assert "pixel_permutation" in loss_card(subject("rmi"), []).exceptions


def test_a_class_that_is_absent() -> None:
    assert absent_class(subject("ce")) == {"perfect": pytest.approx(0, abs=1e-9), "gradient": pytest.approx(1)}
    assert absent_class(subject("dice"))["perfect"] == pytest.approx(0, abs=1e-6)


def test_dtypes() -> None:
    assert precision(subject("ce"), torch.bfloat16).value == pytest.approx(0, abs=1e-6)
    low = precision(subject("low_precision"), torch.bfloat16)
    assert low.value is not None
    assert low.value > 1e-3
    broken = precision(subject("vector"), torch.float16)
    assert broken.value is None
    assert "shape" in broken.error


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux only")
def test_costs_are_ratios_to_cross_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small shapes: torch_ce is the baseline itself, and takes as much memory."""
    for shape in SHAPES:
        monkeypatch.setitem(SHAPES, shape, (4, 11, 72, 96))
    cost = costs(subject("torch_ce"))[0]
    assert 0.3 < cost.ratio < 3
    assert cost.ratio_low <= cost.ratio <= cost.ratio_high
    assert cost.memory is not None
    assert cost.ce_memory is not None
    # The gradient, log-softmax and what its backward makes: three of the logits' size.
    assert 2 < cost.ce_memory < 4.5
    assert cost.memory / cost.ce_memory == pytest.approx(1, abs=0.1)
