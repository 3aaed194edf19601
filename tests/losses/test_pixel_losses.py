"""CE, balanced CE and focal against plain loops, torch and each other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from lossbench.losses import BalancedCrossEntropyLoss, CrossEntropyLoss, FocalLoss
from tests.losses import reference
from tests.losses.batches import VOID, batch, batches, value_and_grad

SEEDS = range(3)
Batch = tuple[Tensor, Tensor]
quick = settings(max_examples=40, deadline=None)


def bitwise_equal(one, other, logits: Tensor) -> None:
    """Value and gradient equal in every bit."""
    v1, g1 = value_and_grad(one, logits)
    v2, g2 = value_and_grad(other, logits)
    assert torch.equal(v1, v2)
    assert torch.equal(g1, g2)


# --- against plain loops ---


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_ce_is_the_loop(seed: int, smoothing: float) -> None:
    logits, target = batch(seed)
    assert CrossEntropyLoss(label_smoothing=smoothing)(logits, target).item() == pytest.approx(
        reference.cross_entropy(logits, target, smoothing), rel=1e-12
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("normalise", ["weights", "pixels"])
@pytest.mark.parametrize("counts", [[700, 200, 90, 10], None])
def test_balanced_ce_is_the_loop(seed: int, normalise: str, counts: list[int] | None) -> None:
    logits, target = batch(seed)
    loss = BalancedCrossEntropyLoss(counts, counts="dataset" if counts else "batch", normalise=normalise)
    # Weights are kept in float32.
    expected = reference.balanced(logits, target, counts, normalise)
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [0.75, [0.1, 0.5, 1.0, 2.0]])
def test_focal_is_the_loop(seed: int, gamma: float, alpha: float | list[float]) -> None:
    logits, target = batch(seed)
    loss = FocalLoss(gamma=gamma, alpha=alpha)
    expected = reference.focal(logits, target, gamma, alpha)
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-7)


# --- against torch ---


@quick
@given(batches(dtype=torch.float64), st.sampled_from([0.0, 0.2]))
def test_ce_is_torchs(data: Batch, smoothing: float) -> None:
    logits, target = data

    def theirs(z: Tensor) -> Tensor:
        return functional.cross_entropy(z, target, ignore_index=VOID, label_smoothing=smoothing)

    value, grad = value_and_grad(lambda z: CrossEntropyLoss(label_smoothing=smoothing)(z, target), logits)
    expected, expected_grad = value_and_grad(theirs, logits)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-9, atol=1e-14)


@quick
@given(batches(dtype=torch.float64))
def test_balanced_ce_is_torchs_weighted_ce(data: Batch) -> None:
    logits, target = data
    counts = [10 * (label + 1) ** 2 for label in range(logits.shape[1])] if logits.shape[1] > 1 else [1]
    weight = torch.tensor([(sum(counts) - count) / sum(counts) for count in counts], dtype=torch.float64)
    value, grad = value_and_grad(lambda z: BalancedCrossEntropyLoss(counts)(z, target), logits)
    if logits.shape[1] == 1:  # weight 0 everywhere: torch divides 0 by 0
        assert value == 0
        assert not grad.any()
        return
    expected, expected_grad = value_and_grad(
        lambda z: functional.cross_entropy(z, target, weight, ignore_index=VOID), logits
    )
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-6, atol=1e-9)


# --- identities ---


@quick
@given(batches())
def test_focal_gamma_0_alpha_1_is_ce_in_every_bit(data: Batch) -> None:
    logits, target = data
    bitwise_equal(lambda z: FocalLoss(gamma=0.0, alpha=1.0)(z, target), lambda z: CrossEntropyLoss()(z, target), logits)


@quick
@given(batches())
def test_label_smoothing_0_is_ce_in_the_limit(data: Batch) -> None:
    logits, target = data
    tiny = CrossEntropyLoss(label_smoothing=1e-12)(logits, target)
    torch.testing.assert_close(tiny, CrossEntropyLoss()(logits, target), rtol=1e-5, atol=1e-6)


@quick
@given(batches(dtype=torch.float64), st.integers(1, 10**9))
def test_balanced_ce_with_equal_counts_is_ce(data: Batch, count: int) -> None:
    logits, target = data
    classes = logits.shape[1]
    if classes == 1:
        return
    value, grad = value_and_grad(lambda z: BalancedCrossEntropyLoss([count] * classes)(z, target), logits)
    expected, expected_grad = value_and_grad(lambda z: CrossEntropyLoss()(z, target), logits)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("normalise", ["weights", "pixels"])
def test_balanced_ce_with_weights_of_1_is_ce_in_every_bit(normalise: str) -> None:
    logits, target = batch(dtype=torch.float32)
    loss = BalancedCrossEntropyLoss([1, 1, 1, 1], normalise=normalise)
    loss.weights.fill_(1.0)
    bitwise_equal(lambda z: loss(z, target), lambda z: CrossEntropyLoss()(z, target), logits)


@quick
@given(batches(dtype=torch.float64), st.floats(0, 5), st.floats(0.1, 3))
def test_focal_alpha_is_a_factor_and_equal_alphas_a_scalar(data: Batch, gamma: float, alpha: float) -> None:
    logits, target = data
    one = FocalLoss(gamma=gamma)(logits, target)
    torch.testing.assert_close(FocalLoss(gamma=gamma, alpha=alpha)(logits, target), alpha * one)
    per_class = FocalLoss(gamma=gamma, alpha=[alpha] * logits.shape[1])(logits, target)
    torch.testing.assert_close(per_class, alpha * one, rtol=1e-6, atol=1e-9)


@quick
@given(batches(dtype=torch.float64), st.floats(0, 5), st.floats(0.01, 3))
def test_focal_falls_as_gamma_grows(data: Batch, gamma: float, more: float) -> None:
    logits, target = data
    low = FocalLoss(gamma=gamma + more)(logits, target)
    assert low <= FocalLoss(gamma=gamma)(logits, target) * (1 + 1e-12)


def test_balanced_batch_counts_are_those_of_the_batch() -> None:
    logits, target = batch(3, dtype=torch.float64)
    counts = [int((target == label).sum()) for label in range(4)]
    torch.testing.assert_close(
        BalancedCrossEntropyLoss(counts="batch")(logits, target),
        BalancedCrossEntropyLoss(counts)(logits, target),
        rtol=1e-6,
        atol=0,
    )


def test_balanced_ce_is_as_mild_as_its_docstring_says() -> None:
    shares = [17.54, 24.21, 1.023, 32.96, 4.67, 10.12, 1.221, 1.173, 6.11, 0.666, 0.304]  # CamVid, percent
    weights = BalancedCrossEntropyLoss([round(1e6 * share) for share in shares]).weights
    assert max(shares) / min(shares) == pytest.approx(108.4, abs=0.1)
    assert (weights.max() / weights.min()).item() == pytest.approx(1.49, abs=0.005)


# --- numerics ---


@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.99])
def test_focal_slope_is_finite_and_right_at_p_1(gamma: float) -> None:
    """d/dz of (1 - p)^gamma log p vanishes as p -> 1, although the factor's own slope is infinite there."""
    logits = torch.tensor([50.0, 0.0]).view(1, 2, 1, 1)
    value, grad = value_and_grad(lambda z: FocalLoss(gamma=gamma)(z, torch.zeros(1, 1, 1, dtype=torch.long)), logits)
    assert value == 0
    assert torch.equal(grad, torch.zeros_like(grad))


def test_module_moves_and_has_no_state() -> None:
    loss = BalancedCrossEntropyLoss([1, 2, 3])
    assert loss.state_dict() == {}
    assert "weights" in dict(loss.named_buffers())
    assert "class_alpha" in dict(FocalLoss(alpha=[1.0, 2.0]).named_buffers())
    assert "gamma=3.0" in repr(FocalLoss(gamma=3.0))
