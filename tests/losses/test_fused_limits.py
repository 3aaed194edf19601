"""What the fused losses do at the ends of the number range, and where gradients are watched from outside."""

import pytest
import torch
from torch import Tensor, nn

from lossbench.losses import CrossEntropyLoss, DiceLoss, FocalLoss, LovaszSoftmaxLoss
from lossbench.losses._fused import PixelMean
from lossbench.losses.focal import focal_loss
from tests.losses.batches import VOID, batch

LOSSES = [
    CrossEntropyLoss(),
    CrossEntropyLoss(label_smoothing=0.1),
    FocalLoss(),
    DiceLoss(),
    LovaszSoftmaxLoss(),
    LovaszSoftmaxLoss(method="histogram"),
]


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_the_gradient_is_rounded_after_it_is_scaled(loss: nn.Module) -> None:
    """A GradScaler's 65536 is infinite in float16, and what it is there to save vanishes if rounded before."""
    logits, target = batch(dtype=torch.float32, size=(2, 64, 64))
    low = logits.half()
    grads = []
    for z in (low.clone().requires_grad_(), low.float().requires_grad_()):
        (65536.0 * loss(z, target)).backward()
        assert z.grad is not None
        grads.append(z.grad)
    assert grads[0].dtype == torch.float16
    assert torch.equal(grads[0], grads[1].half())


@pytest.mark.parametrize("margin", [20.0, 45.0, 60.0, 80.0, 84.0, 86.0, 88.0, 88.6, 95.0])
def test_a_pixel_far_on_the_wrong_side(margin: float) -> None:
    """p_y runs through float32's smallest numbers; the gradient must not."""
    recipe = PixelMean(VOID, class_weights=torch.tensor([0.05, 1.0]), divide_by_weights=True)
    z = torch.zeros(1, 2, 64, 64)
    z[:, 1] = margin
    target = torch.zeros(1, 64, 64, dtype=torch.int64)
    target[0, 0] = 1
    fused, plain = (z.clone().requires_grad_() for _ in range(2))
    recipe(fused, target).loss.backward()
    recipe.plain(plain, target).loss.backward()
    assert fused.grad is not None
    torch.testing.assert_close(fused.grad, plain.grad, rtol=1e-5, atol=0)


@pytest.mark.parametrize("garbage", [torch.inf, -torch.inf, torch.nan, 3e38, -3e38])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_garbage_in_one_class_of_an_ignored_pixel(loss: nn.Module, garbage: float) -> None:
    logits, target = batch(dtype=torch.float32, size=(1, 6, 6))
    target[0, 0, 0] = VOID
    results = []
    for value in (0.0, garbage):
        z = logits.clone()
        z[0, -1, 0, 0] = value
        z.requires_grad_()
        found = loss(z, target)
        found.backward()
        results.append((found.detach(), z.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_a_value_alone_costs_no_gradient(loss: nn.Module) -> None:
    logits, target = batch(dtype=torch.float32, size=(2, 8, 9))
    expected = loss(logits.clone().requires_grad_(), target)
    assert expected.requires_grad
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            value = loss(logits.clone().requires_grad_(), target)
        assert not value.requires_grad
        assert torch.allclose(value, expected, rtol=1e-6)


def test_class_weights_that_learn_get_their_gradient() -> None:
    logits, target = batch(dtype=torch.float32, size=(2, 8, 9))
    alpha = torch.linspace(0.2, 0.9, logits.shape[1], requires_grad=True)
    focal_loss(logits, target, alpha=alpha, ignore_index=VOID).backward()
    assert alpha.grad is not None
    assert (alpha.grad[torch.unique(target[target != VOID])] > 0).all()


def test_focal_at_gamma_0_is_cross_entropy_at_infinite_loss_too() -> None:
    z = torch.zeros(1, 3, 1, 2)
    z[0, 0, 0, 0] = -torch.inf
    target = torch.zeros(1, 1, 2, dtype=torch.int64)

    def gradient(loss: nn.Module) -> Tensor:
        x = z.clone().requires_grad_()
        loss(x, target).backward()
        assert x.grad is not None
        return x.grad

    assert torch.equal(gradient(FocalLoss(gamma=0.0)), gradient(CrossEntropyLoss()))
