"""The fused way of the pixel losses against the plain one: values, gradients, and what a caller may do with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lossbench.losses import CrossDropoutFocalLoss, CrossEntropyLoss, DiceLoss, FocalLoss, LovaszSoftmaxLoss, _blocks
from lossbench.losses._fused import PixelMean, nll
from lossbench.losses.focal import focal_curve
from tests.losses.batches import VOID, batch, batches, noisy, replay, value_and_grad

RECIPES = {
    "ce": PixelMean(VOID),
    "smoothed": PixelMean(VOID, smoothing=0.1),
    "class weights": PixelMean(VOID, class_weights=torch.tensor([0.5, 0.0, 2.0, 1.0])),
    "divided by class weights": PixelMean(
        VOID, class_weights=torch.tensor([0.5, 0.0, 2.0, 1.0]), divide_by_weights=True
    ),
    "focal": PixelMean(VOID, focal_curve(2.0)),
    "focal 0.5": PixelMean(VOID, focal_curve(0.5, 0.75)),
    "focal 0": PixelMean(VOID, focal_curve(0.0)),
    "pixel weights": PixelMean(VOID, base=1.0, slope=0.3),
}
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda z: z.clone(),
    "channels_last": lambda z: z.clone(memory_format=torch.channels_last),
    "strided": lambda z: z.repeat_interleave(2, -1)[..., ::2],
}
every_recipe = pytest.mark.parametrize("name", RECIPES)
every_layout = pytest.mark.parametrize("layout", LAYOUTS)
quick = settings(max_examples=40, deadline=None)


class Outcome(NamedTuple):
    means: tuple[Tensor, ...]
    by_logits: Tensor
    by_weight: Tensor | None


def weights_of(name: str, target: Tensor, dtype: torch.dtype) -> Tensor | None:
    generator = torch.Generator().manual_seed(5)
    weight = torch.rand(target.shape, generator=generator, dtype=torch.float64).to(dtype)
    return weight if name == "pixel weights" else None


def outcome(way: Callable[..., tuple[Tensor, ...]], logits: Tensor, target: Tensor, weight: Tensor | None) -> Outcome:
    leaf = logits.detach().requires_grad_()
    inputs = [leaf] if weight is None else [leaf, weight.detach().requires_grad_()]
    means = way(leaf, target, *inputs[1:])
    grads = torch.autograd.grad(means[0], inputs)
    return Outcome(tuple(mean.detach() for mean in means), grads[0], grads[1] if weight is not None else None)


def assert_alike(one: Outcome, other: Outcome, tolerance: float) -> None:
    """Means relative; gradients relative to the largest component."""
    for got, expected in zip(one.means, other.means, strict=True):
        assert got.dtype == expected.dtype
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
    for got, expected in ((one.by_logits, other.by_logits), (one.by_weight, other.by_weight)):
        assert (got is None) == (expected is None)
        if got is not None:
            assert got.dtype == expected.dtype
            torch.testing.assert_close(got, expected, rtol=0, atol=tolerance * max(1e-2, float(expected.abs().max())))


# --- fused = plain ---


@every_recipe
@every_layout
@pytest.mark.parametrize("block", [1, 24, 60, 2**21])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_fused_is_plain(
    name: str, layout: str, block: int, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_blocks, "BLOCK", block)  # from a pixel a block to all in one
    logits, target = batch(size=(3, 4, 5), dtype=dtype)
    logits = LAYOUTS[layout](logits)
    weight = weights_of(name, target, dtype)
    recipe = RECIPES[name]
    assert_alike(outcome(recipe, logits, target, weight), outcome(recipe.plain, logits, target, weight), tolerance)


@quick
@given(batches(), st.sampled_from(["ce", "smoothed", "focal", "focal 0.5", "pixel weights"]), st.booleans())
def test_fused_is_plain_on_all_shapes_and_scales(data: tuple[Tensor, Tensor], name: str, rows: bool) -> None:
    logits, target = data
    logits = LAYOUTS["channels_last" if rows else "contiguous"](logits)
    weight = weights_of(name, target, logits.dtype)
    recipe = RECIPES[name]
    assert_alike(outcome(recipe, logits, target, weight), outcome(recipe.plain, logits, target, weight), 1e-5)


@every_recipe
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(name: str, dtype: torch.dtype) -> None:
    logits, target = batch(size=(2, 8, 8), dtype=dtype)
    weight = weights_of(name, target, torch.float32)
    recipe = RECIPES[name]
    low = outcome(recipe, logits, target, weight)
    wide = outcome(recipe, logits.float(), target, weight)
    assert low.by_logits.dtype == dtype
    assert all(torch.equal(a, b) for a, b in zip(low.means, wide.means, strict=True))
    assert torch.equal(low.by_logits, wide.by_logits.to(dtype))


@every_recipe
@every_layout
@pytest.mark.parametrize("at_label", [-3e4, 3e4])
def test_extreme_logits(name: str, layout: str, at_label: float) -> None:
    """exp(z - z_y) overflows: the block is done again, the other pixels keep their bits."""
    logits, target = batch(dtype=torch.float32)
    spoilt = logits.clone()
    valid = (target != VOID).nonzero()
    n, i, j = valid[1].tolist()
    spoilt[n, target[n, i, j], i, j] = at_label
    weight = weights_of(name, target, torch.float32)
    recipe = RECIPES[name]
    fused = outcome(recipe, LAYOUTS[layout](spoilt), target, weight)
    assert_alike(fused, outcome(recipe.plain, spoilt, target, weight), 2e-6)
    before = outcome(recipe, LAYOUTS[layout](logits), target, weight).by_logits.clone()
    before[n, :, i, j] = fused.by_logits[n, :, i, j]
    assert torch.equal(fused.by_logits, before)


@every_recipe
@every_layout
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), float("-inf"), 1e30])
def test_ignored_pixels_hold_anything(name: str, layout: str, garbage: float) -> None:
    logits, target = batch(dtype=torch.float32)
    ignored = (target == VOID).unsqueeze(1)
    weight = weights_of(name, target, torch.float32)
    clean = outcome(RECIPES[name], LAYOUTS[layout](logits), target, weight)
    spoilt = outcome(RECIPES[name], LAYOUTS[layout](logits.masked_fill(ignored, garbage)), target, weight)
    assert all(torch.equal(a, b) for a, b in zip(clean.means, spoilt.means, strict=True))
    assert torch.equal(clean.by_logits, spoilt.by_logits)
    assert not spoilt.by_logits.masked_select(ignored).any()


@every_recipe
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_labelled_pixel_shows_in_the_value(name: str, bad: float) -> None:
    """The training loop finds a diverged run by its loss."""
    logits, target = batch(dtype=torch.float32)
    logits[0, 1, 0, 0] = bad  # labelled 0, whose weight is not 0
    assert not RECIPES[name](logits, target, weights_of(name, target, torch.float32)).loss.isfinite()


# --- derivatives ---


@every_recipe
@every_layout
def test_gradcheck_through_the_fused_way(name: str, layout: str) -> None:
    logits, target = batch(size=(1, 2, 3))
    weight = weights_of(name, target, torch.float64)
    inputs = [LAYOUTS[layout](logits).requires_grad_()] + ([] if weight is None else [weight.requires_grad_()])
    assert _blocks.can_fuse(*inputs)
    assert torch.autograd.gradcheck(lambda z, *w: RECIPES[name](z, target, *w).loss, inputs)


@every_recipe
def test_second_derivatives_take_the_plain_way(name: str) -> None:
    logits, target = batch(size=(1, 2, 2))
    weight = weights_of(name, target, torch.float64)
    inputs = [logits.requires_grad_()] + ([] if weight is None else [weight.requires_grad_()])
    assert torch.autograd.gradgradcheck(lambda z, *w: RECIPES[name](z, target, *w).loss, inputs)


def test_forward_mode_and_functional_transforms() -> None:
    logits, target = batch(size=(1, 2, 3))
    direction = torch.ones_like(logits).cumsum(1)
    loss = FocalLoss()
    leaf = logits.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf, target), leaf)
    _, slope = torch.func.jvp(lambda z: loss(z, target), (logits,), (direction,))
    torch.testing.assert_close(slope, (expected * direction).sum())
    torch.testing.assert_close(torch.func.grad(lambda z: loss(z, target))(logits), expected)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(logits, direction)
        tangent = torch.autograd.forward_ad.unpack_dual(loss(dual, target)).tangent
    torch.testing.assert_close(tangent, slope)


def test_the_graph_may_run_twice_and_be_scaled() -> None:
    logits, target = batch(dtype=torch.float32)
    for scale in (1.0, 0.5):
        leaf = logits.clone().requires_grad_()
        loss = CrossEntropyLoss()(leaf, target) * scale
        (first,) = torch.autograd.grad(loss, leaf, retain_graph=True)
        kept = first.clone()
        loss.backward(retain_graph=True)
        loss.backward()
        assert torch.equal(first, kept)
        assert torch.equal(leaf.grad, 2 * kept)


def test_gradients_of_two_losses_add_up() -> None:
    logits, target = batch(dtype=torch.float32)
    leaf = logits.clone().requires_grad_()
    ce, focal = CrossEntropyLoss()(leaf, target), FocalLoss()(leaf, target)
    (ce + focal).backward(retain_graph=True)
    parts = [torch.autograd.grad(loss, leaf)[0] for loss in (ce, focal)]
    torch.testing.assert_close(leaf.grad, sum(parts), rtol=1e-6, atol=1e-9)


def test_a_loss_may_be_changed_in_place() -> None:
    logits, target = batch(dtype=torch.float32)
    leaf = logits.clone().requires_grad_()
    loss = CrossEntropyLoss()(leaf, target)
    loss /= 4
    loss.backward()
    (expected,) = torch.autograd.grad(CrossEntropyLoss()(leaf, target), leaf)
    torch.testing.assert_close(leaf.grad, expected / 4)


@every_recipe
def test_without_gradients_the_value_is_the_same(name: str) -> None:
    logits, target = batch(dtype=torch.float32)
    weight = weights_of(name, target, torch.float32)
    expected = RECIPES[name](logits.clone().requires_grad_(), target, weight)
    with torch.no_grad():
        got = RECIPES[name](logits, target, weight)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert not got.loss.requires_grad
    assert not expected.unweighted.requires_grad


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "loss",
    [CrossEntropyLoss(), FocalLoss(), DiceLoss(), LovaszSoftmaxLoss(), LovaszSoftmaxLoss(method="histogram")],
    ids=repr,
)
def test_autocast_changes_no_bit(loss: torch.nn.Module, layout: str) -> None:
    logits, target = batch(dtype=torch.float32, size=(2, 8, 9))
    logits = LAYOUTS[layout](logits)
    value, grad = value_and_grad(lambda z: loss(z, target), logits)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast, cast_grad = value_and_grad(lambda z: loss(z, target), logits)
    assert torch.equal(cast, value)
    assert torch.equal(cast_grad, grad)


def test_layout_of_the_gradient_is_that_of_the_logits() -> None:
    logits, target = batch(dtype=torch.float32, size=(2, 8, 9))
    for name in ("contiguous", "channels_last"):
        leaf = LAYOUTS[name](logits).requires_grad_()
        (grad,) = torch.autograd.grad(CrossEntropyLoss()(leaf, target), leaf)
        assert grad.stride() == leaf.stride()


# --- when the plain way is taken ---


def test_what_is_not_fused() -> None:
    plain = torch.zeros(1, 2, 1, 1)
    assert _blocks.can_fuse(plain)
    assert _blocks.can_fuse(torch.nn.Parameter(plain), plain)
    assert not _blocks.can_fuse(plain.to("meta"))
    assert not _blocks.can_fuse(plain, plain.as_subclass(type("Wrapped", (Tensor,), {})))


def test_compiled_it_is_the_same() -> None:
    logits, target = batch(dtype=torch.float32)
    compiled = torch.compile(FocalLoss(), backend="eager", fullgraph=False)
    leaves = [logits.clone().requires_grad_() for _ in range(2)]
    losses = [compiled(leaves[0], target), FocalLoss()(leaves[1], target)]
    grads = [torch.autograd.grad(loss, leaf)[0] for loss, leaf in zip(losses, leaves, strict=True)]
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(grads[0], grads[1])


def test_the_mean_without_blocks_is_the_sum_of_its_parts() -> None:
    """The three means of a weighted call, from their definitions."""
    logits, target = batch()
    weight = weights_of("pixel weights", target, torch.float64)
    means = PixelMean(VOID, nll, base=1.0, slope=0.3)(logits, target, weight)
    losses = torch.nn.functional.cross_entropy(logits, target, ignore_index=VOID, reduction="none")
    labelled = (target != VOID).sum()
    torch.testing.assert_close(means.unweighted, losses.sum() / labelled)
    torch.testing.assert_close(means.weighted, (weight * losses).sum() / labelled)
    torch.testing.assert_close(means.loss, ((1 + 0.3 * weight) * losses).sum() / labelled)


@pytest.mark.parametrize("log_p", ["main", "mc_mean"])
def test_gradient_through_u_is_that_of_the_plain_way(log_p: str, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, target = batch()
    loss = CrossDropoutFocalLoss(omega=5.0, u_scale="unit", grad_through_u=True, log_p=log_p)

    def run() -> tuple[Tensor, ...]:
        leaves = [z.detach().requires_grad_() for z in (logits, *noisy(logits))]
        value = loss(leaves[0], target, replay(leaves[1:]))
        return value.detach(), *torch.autograd.grad(value, leaves), *loss.diagnostics.values()

    fused = run()
    monkeypatch.setattr("lossbench.losses._fused.can_fuse", lambda *tensors: False)
    for got, expected in zip(fused, run(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-13)
