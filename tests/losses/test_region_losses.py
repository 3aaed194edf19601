"""Dice, Tversky and Jaccard against plain loops, other libraries, the metric, each other and their plain way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lossbench import metrics
from lossbench.losses import DiceLoss, JaccardLoss, TverskyLoss, _blocks, _region
from tests.losses import reference
from tests.losses.batches import VOID, batch, batches, value_and_grad

Batch = tuple[Tensor, Tensor]
quick = settings(max_examples=40, deadline=None)
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda z: z.clone(),
    "channels_last": lambda z: z.clone(memory_format=torch.channels_last),
    "strided": lambda z: z.repeat_interleave(2, -1)[..., ::2],
}
WEIGHTS = [(0.5, 0.5), (1.0, 1.0), (0.3, 0.7), (0.0, 2.0)]
every_weighting = pytest.mark.parametrize(("alpha", "beta"), WEIGHTS)


def plain(alpha: float, beta: float, target: Tensor) -> Callable[[Tensor], Tensor]:
    score = _region.tversky_score(alpha, beta)
    return lambda z: _region.plain_region_loss(z, target, score, VOID)


# --- references ---


@every_weighting
@pytest.mark.parametrize("seed", range(3))
def test_tversky_is_the_loop(alpha: float, beta: float, seed: int) -> None:
    logits, target = batch(seed)
    loss = TverskyLoss(alpha=alpha, beta=beta)(logits, target)
    assert loss.item() == pytest.approx(reference.tversky(logits, target, alpha, beta), rel=1e-12)


def full_batch() -> Batch:
    """Every class is present, so that all conventions about absent ones agree; with void."""
    logits, target = batch(4, size=(2, 9, 10))
    assert set(target.unique().tolist()) == {0, 1, 2, 3, VOID}
    return logits, target


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (DiceLoss(), smp.losses.DiceLoss("multiclass", ignore_index=VOID, eps=1e-12)),
        (TverskyLoss(), smp.losses.TverskyLoss("multiclass", ignore_index=VOID, eps=1e-12, alpha=0.3, beta=0.7)),
    ],
    ids=["dice", "tversky"],
)
def test_as_in_segmentation_models_pytorch(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    logits, target = full_batch()
    value, grad = value_and_grad(lambda z: ours(z, target), logits)
    expected, expected_grad = value_and_grad(lambda z: theirs(z, target), logits)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(grad, expected_grad)


def test_jaccard_as_in_segmentation_models_pytorch() -> None:
    """Theirs knows no ignored pixels: the labelled ones alone."""
    logits, target = full_batch()
    row = logits.movedim(1, 0)[:, target != VOID][None, :, None]
    theirs = smp.losses.JaccardLoss("multiclass", eps=1e-12)(row, target[target != VOID][None, None])
    torch.testing.assert_close(JaccardLoss()(logits, target), theirs)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (0.3, 0.7)])
def test_as_in_monai(alpha: float, beta: float) -> None:
    monai = pytest.importorskip("monai.losses")
    logits, target = full_batch()
    target = target.masked_fill(target == VOID, 0)
    options = {"softmax": True, "to_onehot_y": True, "batch": True, "smooth_nr": 0.0, "smooth_dr": 0.0}
    expected = monai.TverskyLoss(alpha=alpha, beta=beta, **options)(logits, target[:, None])
    torch.testing.assert_close(TverskyLoss(alpha=alpha, beta=beta)(logits, target), expected)
    if alpha == beta:
        dice = monai.DiceLoss(**options)(logits, target[:, None])
        torch.testing.assert_close(DiceLoss()(logits, target), dice)


# --- identities ---


@quick
@given(batches())
def test_tversky_holds_dice_and_jaccard_in_every_bit(data: Batch) -> None:
    logits, target = data
    for special, general in (
        (DiceLoss(), TverskyLoss(alpha=0.5, beta=0.5)),
        (JaccardLoss(), TverskyLoss(alpha=1, beta=1)),
    ):
        value, grad = value_and_grad(lambda z, loss=special: loss(z, target), logits)
        expected, expected_grad = value_and_grad(lambda z, loss=general: loss(z, target), logits)
        assert torch.equal(value, expected)
        assert torch.equal(grad, expected_grad)


@quick
@given(batches(dtype=torch.float64))
def test_dice_and_jaccard_of_a_class(data: Batch) -> None:
    """D = 2 J / (1 + J) per class: with one class present."""
    logits, target = data
    target = torch.where(target == VOID, VOID, 0)
    dice, jaccard = 1 - DiceLoss()(logits, target), 1 - JaccardLoss()(logits, target)
    torch.testing.assert_close(dice, 2 * jaccard / (1 + jaccard), rtol=1e-10, atol=1e-12)


@quick
@given(batches(dtype=torch.float64), st.integers(0, 2**31))
def test_jaccard_of_a_one_hot_prediction_is_1_minus_miou(data: Batch, seed: int) -> None:
    """This ties the loss to the metric, `metrics.iou` over the classes present in the target."""
    logits, target = data
    classes = logits.shape[1]
    prediction = torch.randint(classes, target.shape, generator=torch.Generator().manual_seed(seed))
    one_hot = 1e4 * torch.nn.functional.one_hot(prediction, classes).movedim(-1, 1).double()
    matrix = metrics.confusion_matrix(target.numpy(), prediction.numpy(), classes)
    present = matrix.sum(1) > 0
    expected = 1 - float(np.mean(metrics.iou(matrix)[present])) if present.any() else 0.0
    assert JaccardLoss()(one_hot, target).item() == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_alpha_is_false_positives_and_beta_false_negatives() -> None:
    """Class 1 predicted everywhere: index 1 / (1 + 3 alpha) for class 1, which has 3 false alarms, 0 for class 0."""
    target = torch.tensor([[[0, 0, 0, 1]]])
    logits = torch.tensor([0.0, 1e4], dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, 1, 4)
    assert TverskyLoss(alpha=0.25, beta=4.0)(logits, target).item() == pytest.approx((1 + 1 - 1 / 1.75) / 2)
    # Class 0 at 1 of its 3 pixels, no false alarm for it: 1 / (1 + 2 beta); class 1 at its pixel and at 2 others.
    logits = torch.where(torch.tensor([1.0, 0, 0, 0]).bool(), logits.flip(1), logits)
    index = [1 / (1 + 2 * 4.0), 1 / (1 + 2 * 0.25)]
    assert TverskyLoss(alpha=0.25, beta=4.0)(logits, target).item() == pytest.approx(1 - sum(index) / 2)


# --- fused = plain ---


@every_weighting
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("block", [1, 24, 60, 2**21])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_fused_is_plain(
    alpha: float,
    beta: float,
    layout: str,
    block: int,
    dtype: torch.dtype,
    tolerance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_blocks, "BLOCK", block)
    logits, target = batch(size=(3, 4, 5), dtype=dtype)
    logits = LAYOUTS[layout](logits)
    leaf = logits.detach().requires_grad_()
    value = TverskyLoss(alpha=alpha, beta=beta)(leaf, target)
    (grad,) = torch.autograd.grad(value, leaf)
    expected, expected_grad = value_and_grad(plain(alpha, beta, target), logits)
    torch.testing.assert_close(value.detach(), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(grad, expected_grad, rtol=0, atol=tolerance * float(expected_grad.abs().max()))


@quick
@given(batches())
def test_fused_is_plain_on_all_shapes_and_scales(data: Batch) -> None:
    logits, target = data
    value, grad = value_and_grad(lambda z: TverskyLoss()(z, target), logits)
    expected, expected_grad = value_and_grad(plain(0.3, 0.7, target), logits)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad, expected_grad, rtol=0, atol=1e-5)


def test_half_precision_is_widened() -> None:
    logits, target = batch(dtype=torch.bfloat16)
    value, grad = value_and_grad(lambda z: DiceLoss()(z, target), logits)
    expected, expected_grad = value_and_grad(lambda z: DiceLoss()(z, target), logits.float())
    assert torch.equal(value, expected)
    assert torch.equal(grad, expected_grad.bfloat16())


def test_derivatives() -> None:
    logits, target = batch(size=(1, 2, 3))
    leaf = logits.requires_grad_()
    for rows in (leaf, LAYOUTS["channels_last"](leaf.detach()).requires_grad_()):
        assert torch.autograd.gradcheck(lambda z: TverskyLoss()(z, target), rows)
    assert torch.autograd.gradgradcheck(lambda z: TverskyLoss()(z, target), leaf)


def test_the_graph_may_run_twice_and_values_need_no_graph() -> None:
    logits, target = batch(dtype=torch.float32)
    leaf = logits.clone().requires_grad_()
    loss = DiceLoss()(leaf, target)
    (first,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    kept = first.clone()
    loss.backward(retain_graph=True)
    (3 * loss).backward()
    assert torch.equal(first, kept)
    torch.testing.assert_close(leaf.grad, 4 * kept)
    with torch.no_grad():
        assert torch.equal(DiceLoss()(logits, target), loss)


def test_a_nan_at_a_labelled_pixel_shows() -> None:
    logits, target = batch(dtype=torch.float32)
    logits[0, 1, 0, 0] = float("nan")
    assert DiceLoss()(logits, target).isnan()


def test_an_absent_class_does_not_count_even_where_it_is_predicted() -> None:
    logits, target = batch()
    target = target.masked_fill(target == 3, VOID)
    expected = reference.tversky(logits, target, 0.5, 0.5)
    assert DiceLoss()(logits, target).item() == pytest.approx(expected, rel=1e-12)
    assert np.isfinite(expected)
