"""Lovász-softmax: the fast ways against the plain one, and the histogram against its bound."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lossbench.errors import ConfigError, ParameterError
from lossbench.losses import LovaszSoftmaxLoss
from lossbench.losses._lovasz_exact import PARALLEL
from lossbench.losses._lovasz_plain import Weigh, histogram_weights, lovasz_weights, plain
from lossbench.losses._lovasz_tables import bin_weights
from tests.losses.batches import VOID, batch, batches, value_and_grad

Batch = tuple[Tensor, Tensor]
quick = settings(max_examples=40, deadline=None)

Method = Literal["exact", "histogram"]
METHODS: tuple[Method, ...] = ("exact", "histogram")


def plainly(logits: Tensor, target: Tensor, method: Method = "exact", bins: int = 4096) -> tuple[Tensor, Tensor]:
    weigh = lovasz_weights if method == "exact" else partial(histogram_weights, bins=bins)
    return value_and_grad(lambda z: plain(z, target, VOID, weigh), logits)


def differentiated(loss: LovaszSoftmaxLoss, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    return value_and_grad(lambda z: loss(z, target), logits)


def distance(grad: Tensor, truth: Tensor) -> float:
    """Relative, in the L2 norm."""
    return float((grad.double() - truth.double()).norm() / truth.double().norm())


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": torch.Tensor.contiguous,
    "channels_last": lambda z: z.contiguous(memory_format=torch.channels_last),
    "strided": lambda z: z.repeat_interleave(2, -1)[..., ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("boost", [0.0, 4.0])
@pytest.mark.parametrize(
    ("classes", "size"), [(1, (2, 40, 40)), (2, (2, 64, 64)), (19, (2, 128, 160)), (150, (2, 60, 60))]
)
def test_exact_is_the_plain_way(classes: int, size: tuple[int, int, int], boost: float, layout: str) -> None:
    logits, target = batch(3, classes, size, torch.float32, scale=3.0)
    label = target.where(target != VOID, 0).unsqueeze(1)
    logits = logits.scatter_add(1, label, torch.full_like(logits[:, :1], boost))  # as after training
    value, grad = differentiated(LovaszSoftmaxLoss(method="exact"), LAYOUTS[layout](logits), target)
    expected, _ = plainly(logits, target)
    truth_value, truth = plainly(logits.double(), target)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(value.double(), truth_value, rtol=1e-6, atol=1e-7)
    assert classes == 1 or distance(grad, truth) < 5e-5


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bins", [1, 64, 4096])
@pytest.mark.parametrize("classes", [2, 19])
def test_histogram_is_the_plain_way(classes: int, bins: int, layout: str) -> None:
    logits, target = batch(4, classes, (2, 70, 90), scale=3.0)
    loss = LovaszSoftmaxLoss(method="histogram", bins=bins)
    value, grad = differentiated(loss, LAYOUTS[layout](logits), target)
    expected, expected_grad = plainly(logits, target, "histogram", bins)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-14)
    assert distance(grad, expected_grad) < 1e-12


@quick
@given(batches(dtype=torch.float64), st.sampled_from([1, 2, 7, 64, 4096]))
def test_histogram_lies_below_exact_by_at_most_a_bin(data: Batch, bins: int) -> None:
    logits, target = data
    exact = LovaszSoftmaxLoss(method="exact")(logits, target)
    below = exact - LovaszSoftmaxLoss(method="histogram", bins=bins)(logits, target)
    assert -1e-12 <= below <= 1 / bins + 1e-12


@quick
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 40))
def test_bin_weights_are_those_of_the_sort_where_no_bin_is_shared(seed: int, classes: int, pixels: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    place = torch.stack([torch.randperm(64, generator=generator)[:pixels] for _ in range(classes)])
    foreground = torch.rand(classes, pixels, generator=generator) < 0.4
    counts = torch.zeros(classes, 2, 64, dtype=torch.int64)
    for c in range(classes):
        counts[c, foreground[c].long(), place[c]] = 1
    found = bin_weights(counts)
    for c in range(classes):
        expected = lovasz_weights(place[c].double(), foreground[c])
        torch.testing.assert_close(found[c, foreground[c].long(), place[c]], expected, rtol=1e-12, atol=0)


def test_histogram_gradient_comes_near_the_exact_one_with_more_bins() -> None:
    logits, target = batch(5, classes=6, size=(2, 128, 256), dtype=torch.float32, scale=3.0)
    _, truth = plainly(logits.double(), target)
    errors = [
        distance(differentiated(LovaszSoftmaxLoss(method="histogram", bins=bins), logits, target)[1], truth)
        for bins in (256, 4096, 65536)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[1] < 2e-3


def test_histogram_gradient_is_the_derivative_of_its_value() -> None:
    logits, target = batch(6, classes=3, size=(1, 3, 4))
    leaf = logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: LovaszSoftmaxLoss(method="histogram", bins=64)(z, target), leaf)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_threads_do_not_change_a_bit(method: Method, layout: str) -> None:
    logits, target = batch(7, classes=11, size=(2, 256, 256), dtype=torch.float32, scale=3.0)
    assert logits.numel() >= PARALLEL
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(differentiated(LovaszSoftmaxLoss(method=method), LAYOUTS[layout](logits), target))
    finally:
        torch.set_num_threads(before)
    for value, grad in found[1:]:
        assert torch.equal(value, found[0][0])
        assert torch.equal(grad, found[0][1])


@pytest.mark.parametrize("method", METHODS)
def test_ties_have_a_subgradient_that_does_not_change(method: Method) -> None:
    logits, target = torch.zeros(2, 3, 8, 8), batch(8, 3, (2, 8, 8))[1]
    loss = LovaszSoftmaxLoss(method=method)
    value, grad = differentiated(loss, logits, target)
    again, grad_again = differentiated(loss, logits, target)
    expected, _ = plainly(logits, target)
    tolerance = 1 / 4096 if method == "histogram" else 1e-6
    assert abs(value - expected) <= tolerance
    assert torch.equal(value, again)
    assert torch.equal(grad, grad_again)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 1e30])
def test_garbage_at_ignored_pixels_changes_no_bit(method: Method, garbage: float) -> None:
    logits, target = batch(9, 5, (2, 20, 20), torch.float32)
    void = (target == VOID).unsqueeze(1)
    loss = LovaszSoftmaxLoss(method=method)
    value, grad = differentiated(loss, logits, target)
    other, other_grad = differentiated(loss, logits.masked_fill(void, garbage), target)
    assert torch.equal(value, other)
    assert torch.equal(grad, other_grad)
    assert (grad.masked_select(void) == 0).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_broken_logit_makes_the_loss_nan(method: Method, bad: float) -> None:
    logits, target = batch(10, 4, (1, 6, 6), torch.float32)
    logits[0, 1, 0, 0] = bad  # labelled
    value, grad = differentiated(LovaszSoftmaxLoss(method=method), logits, target)
    assert value.isnan()
    assert (grad.movedim(1, -1)[target == VOID] == 0).all()
    assert plainly(logits, target, method)[0].isnan()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("label", [-1, 4, 2**40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_labels_out_of_range_are_named(method: Method, label: int, dtype: torch.dtype) -> None:
    logits, target = batch(11, 4, dtype=dtype)
    target[1, 1, 1] = label
    with pytest.raises(ConfigError, match=rf"target holds the label {label}, but the logits have 4 classes"):
        LovaszSoftmaxLoss(method=method)(logits, target)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_has_the_gradient_of_float32(method: Method, dtype: torch.dtype) -> None:
    logits, target = batch(12, 5, (2, 16, 16), dtype)
    loss = LovaszSoftmaxLoss(method=method)
    value, grad = differentiated(loss, logits, target)
    expected, expected_grad = differentiated(loss, logits.float(), target)
    assert grad.dtype == dtype
    assert torch.equal(value, expected)
    assert torch.equal(grad, expected_grad.to(dtype))


@pytest.mark.parametrize("method", METHODS)
def test_the_graph_may_be_run_again_and_scaled(method: Method) -> None:
    logits, target = batch(13, 4, (1, 8, 8), torch.float32)
    leaf = logits.requires_grad_()
    loss = LovaszSoftmaxLoss(method=method)(leaf, target)
    once, twice, scaled = (torch.autograd.grad(k * loss, leaf, retain_graph=True)[0] for k in (1, 1, 3))
    assert torch.equal(once, twice)
    assert torch.equal(scaled, 3 * once)
    with torch.no_grad():
        assert torch.equal(LovaszSoftmaxLoss(method=method)(leaf, target), loss)


def test_the_second_derivative_is_the_plain_ways() -> None:
    logits, target = batch(14, 3, (1, 4, 4), torch.float32)

    def second(loss: Callable[[Tensor], Tensor]) -> Tensor:
        leaf = logits.clone().requires_grad_()
        (first,) = torch.autograd.grad(loss(leaf), leaf, create_graph=True)
        return torch.autograd.grad(first.square().sum(), leaf)[0]

    found = second(lambda z: LovaszSoftmaxLoss(method="exact")(z, target))
    torch.testing.assert_close(found, second(lambda z: plain(z, target, VOID)))
    assert found.abs().sum() > 0


@pytest.mark.parametrize("weigh", [lovasz_weights, partial(histogram_weights, bins=64)], ids=METHODS)
def test_the_plain_way_reads_nothing_back(weigh: Weigh) -> None:
    """Tensors of the meta device hold no data: to read them is an error, as waiting for a GPU is a fault."""
    logits, target = torch.empty(2, 5, 8, 8, device="meta", requires_grad=True), torch.empty(2, 8, 8, device="meta")
    loss = plain(logits, target.long(), VOID, weigh)
    assert torch.autograd.grad(loss, logits)[0].shape == logits.shape


@pytest.mark.parametrize("method", METHODS)
def test_extremes(method: Method) -> None:
    loss = LovaszSoftmaxLoss(method=method)
    logits, target = batch(15, 4, (2, 1, 1), torch.float32)
    assert loss(logits, target).isfinite()
    void = torch.full_like(target, VOID)
    value, grad = differentiated(loss, logits, void)
    assert value == 0
    assert (grad == 0).all()
    right = 1e4 * torch.nn.functional.one_hot(target.where(target != VOID, 0), 4).movedim(-1, 1).float()
    assert loss(right, target) == 0
    assert loss(logits[:0], target[:0]) == 0


@pytest.mark.parametrize(("name", "value"), [("method", "fast"), ("bins", 0), ("bins", 2**16 + 1)])
def test_wrong_parameters_are_named(name: str, value: object) -> None:
    with pytest.raises(ParameterError, match=name):
        LovaszSoftmaxLoss(**{name: value})
