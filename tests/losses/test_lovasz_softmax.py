"""Lovász-softmax against plain loops, smp, a confusion matrix and float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from segmentation_models_pytorch.losses import LovaszLoss
from torch import Tensor

from lossbench.losses import LovaszSoftmaxLoss
from lossbench.losses._lovasz_plain import lovasz_weights
from tests.losses import reference
from tests.losses.batches import VOID, batch, batches, value_and_grad

Batch = tuple[Tensor, Tensor]
quick = settings(max_examples=40, deadline=None)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_is_the_loop(seed: int, classes: int) -> None:
    logits, target = batch(seed, classes)
    expected = reference.lovasz_softmax(logits, target)
    assert LovaszSoftmaxLoss()(logits, target).item() == pytest.approx(expected, rel=1e-12)


@quick
@given(batches())
def test_is_smps(data: Batch) -> None:
    logits, target = data
    assume(logits.shape[1] > 1)  # theirs takes one class for a sigmoid
    theirs = LovaszLoss("multiclass", ignore_index=VOID, from_logits=True)
    value, grad = value_and_grad(lambda z: LovaszSoftmaxLoss()(z, target), logits)
    expected, expected_grad = value_and_grad(lambda z: theirs(z, target), logits)  # float32 only
    torch.testing.assert_close(value, expected.to(value.dtype), rtol=1e-4, atol=1e-5)
    ties = logits.softmax(1).flatten().unique().numel() < logits.numel()
    if not ties:  # with ties the subgradient is not unique
        torch.testing.assert_close(grad, expected_grad, rtol=1e-2, atol=1e-4)


def miou_of_present(prediction: Tensor, target: Tensor, classes: int) -> float:
    """Mean IoU over the classes in the target, from a confusion matrix, by the formula."""
    confusion = [[0] * classes for _ in range(classes)]
    for p, y in zip(prediction.flatten().tolist(), target.flatten().tolist(), strict=True):
        if y != VOID:
            confusion[y][p] += 1
    ious = []
    for c in range(classes):
        row = sum(confusion[c])
        column = sum(confusion[y][c] for y in range(classes))
        if row:
            ious.append(confusion[c][c] / (row + column - confusion[c][c]))
    return sum(ious) / len(ious)


@quick
@given(batches(dtype=torch.float64), st.integers(0, 2**31), st.floats(0, 1))
def test_at_one_hot_predictions_is_1_minus_miou(data: Batch, seed: int, right: float) -> None:
    logits, target = data
    classes = logits.shape[1]
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randint(classes, target.shape, generator=generator)
    keep = (torch.rand(target.shape, generator=generator) < right) & (target != VOID)
    prediction[keep] = target[keep]
    one_hot = 1e4 * torch.nn.functional.one_hot(prediction, classes).movedim(-1, 1).double()
    value = LovaszSoftmaxLoss()(one_hot, target).item()
    assert value == pytest.approx(1 - miou_of_present(prediction, target, classes), abs=1e-12)


@quick
@given(batches(dtype=torch.float64))
def test_lies_between_0_and_1(data: Batch) -> None:
    logits, target = data
    assert 0 <= LovaszSoftmaxLoss()(logits, target) <= 1 + 1e-12


@quick
@given(st.integers(2, 60), st.integers(0, 2**31))
def test_weights_sum_to_the_loss_of_all_wrong(pixels: int, seed: int) -> None:
    """The increments telescope: 1 - 0/|everything| - 0 = 1 for any order and any foreground."""
    generator = torch.Generator().manual_seed(seed)
    errors = torch.rand(pixels, generator=generator, dtype=torch.float64)
    foreground = torch.rand(pixels, generator=generator) < 0.5
    foreground[0] = True
    weights = lovasz_weights(errors, foreground)
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(1, abs=1e-12)


def test_float32_gradient_is_near_the_float64_one() -> None:
    """Differencing 1 - I/U, as published implementations do, is 6e-3 off (relative L2) at realistic sizes."""
    logits, target = batch(5, classes=6, size=(2, 128, 256), dtype=torch.float32, scale=3.0)
    _, grad = value_and_grad(lambda z: LovaszSoftmaxLoss()(z, target), logits)
    _, exact = value_and_grad(lambda z: LovaszSoftmaxLoss()(z, target), logits.double())
    error = (grad.double() - exact).norm() / exact.norm()
    _, theirs = value_and_grad(lambda z: LovaszLoss("multiclass", ignore_index=VOID)(z, target), logits)
    published = (theirs.double() - exact).norm() / exact.norm()
    assert error < 5e-5
    assert published > 10 * error


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(dtype: torch.dtype) -> None:
    logits, target = batch(dtype=dtype)
    value = LovaszSoftmaxLoss()(logits, target)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert value.item() == pytest.approx(reference.lovasz_softmax(logits, target), rel=1e-5)


def test_a_class_absent_from_the_target_does_not_count() -> None:
    logits, target = batch(classes=3, void=0.0)
    target[target == 2] = 0
    predicted_absent = torch.cat([logits, logits[:, :1] + 3], 1)
    assert LovaszSoftmaxLoss()(predicted_absent, target).item() == pytest.approx(
        reference.lovasz_softmax(predicted_absent, target), rel=1e-12
    )


def test_ignore_index_may_be_one_of_the_classes() -> None:
    logits, target = batch(void=0.0)
    void = torch.where(target == 1, VOID, target)
    ours = LovaszSoftmaxLoss(ignore_index=1)(logits, target)
    assert torch.equal(ours, LovaszSoftmaxLoss()(logits, void))
