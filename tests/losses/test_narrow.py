"""Variances from narrow logits: those of the widened ones, at every scale, alignment and crop, for all logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lossbench.errors import ConfigError
from lossbench.losses import CrossDropoutFocalLoss, DropoutFocalLoss
from lossbench.losses._moments import Moments, resampled_moments
from lossbench.losses._narrow import CellProbability, widened_probability
from lossbench.losses._pixel import prepare

VOID = 255


class Narrow(NamedTuple):
    logits: Tensor
    size: tuple[int, int]
    align_corners: bool = False


class Passes:
    """Passes that were drawn beforehand; narrow if asked so. Counts which were asked for."""

    def __init__(self, drawn: list[Tensor], size: tuple[int, int], wide: tuple[int, int], align: bool) -> None:
        self.drawn, self.size, self.wide, self.align = drawn, size, wide, align
        self.full = self.short = 0

    def __call__(self) -> Tensor:
        self.full += 1
        logits = self.drawn[self.full - 1]
        wide = F.interpolate(logits, self.wide, mode="bilinear", align_corners=self.align)
        return wide[..., : self.size[0], : self.size[1]]

    def narrow(self) -> Narrow | None:
        self.short += 1
        return Narrow(self.drawn[self.short - 1], self.wide, self.align)


def passes(
    narrow: tuple[int, int] = (5, 7),
    size: tuple[int, int] = (40, 56),
    wide: tuple[int, int] | None = None,
    *,
    align: bool = False,
    count: int = 5,
    scale: float = 3.0,
    spread: float = 0.3,
    images: int = 2,
    classes: int = 4,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Passes]:
    generator = torch.Generator().manual_seed(1)
    main = torch.randn(images, classes, *narrow, generator=generator, dtype=dtype) * scale
    noise = torch.randn(count, *main.shape, generator=generator, dtype=dtype) * spread
    drawn = [main + part for part in noise]
    target = torch.randint(0, classes, (images, *size), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.1] = VOID
    resample = Passes(drawn, size, wide or size, align)
    logits = F.interpolate(main, wide or size, mode="bilinear", align_corners=align)[..., : size[0], : size[1]]
    return logits, target, resample


def both(
    logits: Tensor, target: Tensor, resample: Passes, **options: object
) -> tuple[Callable[[], Moments], Callable[[], Moments]]:
    """u from narrow logits and from full ones."""
    pixels, count = prepare(logits, target, VOID), len(resample.drawn)
    return (
        lambda: resampled_moments(resample, count, pixels, **options),  # type: ignore[arg-type]
        lambda: resampled_moments(lambda: resample(), count, pixels, **options),  # type: ignore[arg-type]
    )


def error(value: Tensor, reference: Tensor) -> float:
    return float(torch.linalg.vector_norm(value.double() - reference) / torch.linalg.vector_norm(reference.double()))


@pytest.mark.parametrize(
    ("narrow", "size", "wide", "align"),
    [
        ((5, 7), (40, 56), None, False),
        ((5, 7), (40, 56), None, True),
        ((4, 4), (12, 12), None, False),  # an odd factor: rows that lie on rows
        ((3, 3), (96, 96), None, False),  # so many rows a cell that the exponential is taken anew
        ((5, 7), (33, 51), (40, 56), False),  # padded images: the rest is cut off
        ((5, 7), (33, 51), (40, 56), True),
        ((5, 7), (3, 2), (40, 56), False),  # all within the first cell
        ((3, 5), (23, 37), None, False),  # no whole factor
        ((3, 5), (23, 37), None, True),
        ((1, 1), (8, 8), None, False),
        ((1, 2), (8, 9), None, True),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_u_is_that_of_the_widened_passes(
    narrow: tuple[int, int], size: tuple[int, int], wide: tuple[int, int] | None, align: bool, count: int
) -> None:
    logits, target, resample = passes(narrow, size, wide, align=align, count=count, spread=1.0)
    short, plain = both(logits, target, resample)
    u, reference = short().u, plain().u
    assert (resample.short, resample.full) == (count, count)
    assert u.shape == target.shape
    if count == 1:
        assert not u.any()
        assert not reference.any()
    else:
        assert error(u, reference) < 1e-6


def test_it_is_as_near_to_double_precision_as_the_plain_path() -> None:
    """19 classes at the sizes of a small training step, where rounding has the most to add up."""
    settings = {"narrow": (32, 64), "size": (256, 512), "classes": 19}
    exact = both(*passes(**settings, dtype=torch.float64))[1]().u  # type: ignore[arg-type]
    logits, target, resample = passes(**settings, dtype=torch.float64)  # type: ignore[arg-type]
    resample.drawn = [drawn.float() for drawn in resample.drawn]
    short, plain = both(logits.float(), target, resample)
    ours, theirs = error(short().u, exact), error(plain().u, exact)
    assert ours < 1e-6
    assert ours < 1.2 * theirs


def test_double_precision_is_kept() -> None:
    short, plain = both(*passes(dtype=torch.float64))
    u = short().u
    assert u.dtype == torch.float64
    assert error(u, plain().u) < 1e-14


@pytest.mark.parametrize("u_at", ["target", "predicted"])
def test_u_at_a_class_uses_narrow_passes(u_at: str) -> None:
    logits, target, resample = passes()
    short, plain = both(logits, target, resample, u_at=u_at)
    u = short().u
    assert (resample.short, resample.full) == (5, 0)
    assert error(u, plain().u) < 2e-6


@pytest.mark.parametrize("options", [{"u_at": "mean"}, {"grad_through_u": True}, {"with_log_mean": True}])
def test_what_needs_all_classes_or_gradients_uses_full_passes(options: dict[str, object]) -> None:
    logits, target, resample = passes()
    both(logits, target, resample, **options)[0]()
    assert (resample.short, resample.full) == (0, 5)


@pytest.mark.parametrize("scale", [30.0, 1e4])
def test_logits_of_any_size(scale: float) -> None:
    """Beyond the range of exp the whole map is widened; u is then mostly 0 or large."""
    short, plain = both(*passes(scale=scale, spread=scale / 10))
    u, reference = short().u, plain().u
    assert u.isfinite().all()
    assert reference.max() > 0.1
    torch.testing.assert_close(u, reference, rtol=1e-3, atol=1e-5)


def test_a_class_that_is_ruled_out() -> None:
    logits, target, resample = passes()
    target.clamp_(max=2)
    for drawn in resample.drawn:
        drawn[:, 3] = -1e4
    short, plain = both(logits, target, resample)
    assert torch.equal(short().u, plain().u)


def test_half_precision_is_widened_as_the_head_does() -> None:
    logits, target, resample = passes()
    resample.drawn = [drawn.bfloat16() for drawn in resample.drawn]
    short, plain = both(logits, target, resample)
    assert torch.equal(short().u, plain().u)


@pytest.mark.parametrize("block", [1, 900, 2500])
def test_image_by_image_and_strip_by_strip_is_all_at_once(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, target, resample = passes(images=3)
    narrow, classes = Narrow(resample.drawn[0], (40, 56)), target.clamp(max=3)
    cells = CellProbability(classes, narrow)
    whole = cells.restore(cells(narrow))
    assert block < 3 * 4 * 6 * 56  # 4 classes, 6 cells
    monkeypatch.setattr("lossbench.losses._narrow.BLOCK", block)
    assert torch.equal(cells.restore(cells(narrow)), whole)
    assert error(whole, widened_probability(narrow, classes)) < 1e-6


def test_no_widening_no_cells() -> None:
    small = Narrow(torch.zeros(1, 3, 8, 8), (16, 16))
    assert not CellProbability.pays(small)
    short, plain = both(*passes((8, 8), (16, 16)))
    assert torch.equal(short().u, plain().u)


@pytest.mark.parametrize("loss", [DropoutFocalLoss(), CrossDropoutFocalLoss(omega=10.0)])
def test_losses_take_either(loss: DropoutFocalLoss | CrossDropoutFocalLoss) -> None:
    logits, target, resample = passes()
    leaf = logits.requires_grad_()
    short = loss(leaf, target, resample)
    plain = loss(leaf, target, lambda: resample())
    assert resample.short == resample.full == 5
    torch.testing.assert_close(short, plain, rtol=1e-6, atol=0)
    (a,), (b,) = (torch.autograd.grad(value, leaf) for value in (short, plain))
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-9)


def test_a_label_that_no_class_has() -> None:
    logits, target, resample = passes()
    target[0, 0, 0] = 4
    with pytest.raises(ConfigError, match="target holds the label 4"):
        both(logits, target, resample)[0]()


def test_narrow_passes_of_another_batch() -> None:
    logits, target, resample = passes()
    resample.drawn = [drawn[:1] for drawn in resample.drawn]
    with pytest.raises(ConfigError, match="resample"):
        both(logits, target, resample)[0]()
