"""Boundaries and confidences against the papers' formulas, in loops and in other people's code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion
from torchmetrics.functional.classification import multiclass_calibration_error

from lossbench import finescores
from lossbench.training import finecounts
from lossbench.training.finecounts import FineCounts, boundary_counts
from lossbench.training.ranks import ALONE

CPU = torch.device("cpu")
VOID = 255


def batch(seed: int, n: int = 2, classes: int = 4, h: int = 13, w: int = 17) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels in patches, with void."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(classes, (n, h // 4 + 1, w // 4 + 1), generator=generator)
    target = target.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :h, :w].contiguous()
    target[torch.rand(target.shape, generator=generator) < 0.1] = VOID
    shown = torch.nn.functional.one_hot(target.clamp(max=classes - 1), classes).movedim(-1, 1)
    return 2 * shown + 1.5 * torch.randn(n, classes, h, w, generator=generator), target


def counted(logits: torch.Tensor, target: torch.Tensor) -> dict:
    counts = FineCounts(logits.shape[1], CPU)
    counts.add(logits, logits.argmax(1), target)
    return counts.gathered(ALONE)


# --- boundary IoU ---


def boundary(mask: np.ndarray, width: int) -> np.ndarray:
    """What an erosion takes from a mask, outside being background (the authors' mask_to_boundary)."""
    return mask & ~binary_erosion(mask, np.ones((3, 3)), iterations=width, border_value=0)


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_boundary_counts_are_those_of_eroded_masks(seed: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finecounts, "boundary_width", lambda h, w: width)
    logits, target = batch(seed)
    guess = logits.argmax(1).where(target != VOID, VOID)
    expected = np.zeros((4, 3), dtype=np.int64)
    for truth, found in zip(target.numpy(), guess.numpy(), strict=True):
        for c in range(4):
            g, p = boundary(truth == c, width), boundary(found == c, width)
            expected[c] += [(g & p).sum(), (p & ~g).sum(), (g & ~p).sum()]
    counts = boundary_counts(target.to(torch.uint8), guess.to(torch.uint8), 4)
    np.testing.assert_array_equal(counts.numpy(), expected)
    assert expected.min() > 0


def test_a_perfect_prediction_has_boundaries_that_agree() -> None:
    _, target = batch(0)
    extra = counted(torch.nn.functional.one_hot(target.clamp(max=3), 4).movedim(-1, 1).float() * 20, target)
    assert finescores.scores(extra)["boundary_miou"] == 1


def test_inner_pixels_do_not_count() -> None:
    target = torch.zeros(1, 300, 300, dtype=torch.int64)
    target[:, :, 150:] = 1
    logits = torch.nn.functional.one_hot(target, 2).movedim(-1, 1).float()
    wrong = logits.clone()
    wrong[0, :, 40:60, 40:60] = torch.tensor([0.0, 1.0]).view(2, 1, 1)  # a hole far from every contour of the truth
    d = finescores.boundary_width(300, 300)
    assert d == 8
    (tp, fp, fn), _ = counted(wrong, target)["boundary"]
    # Around the hole, d wide: false; all true boundaries stay.
    assert (fp, fn) == ((20 + 2 * d) ** 2 - 20**2, 0)
    assert tp == 300 * 150 - (300 - 2 * d) * (150 - 2 * d)


@pytest.mark.parametrize(("size", "width"), [((1, 1), 1), ((30, 40), 1), ((360, 480), 12), ((1024, 2048), 46)])
def test_the_width_is_two_percent_of_the_diagonal(size: tuple[int, int], width: int) -> None:
    assert finescores.boundary_width(*size) == width


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_sliding_is_the_window_of_any_size(length: int, size: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 200, (length + size - 1,), generator=generator, dtype=torch.uint8)
    expected = values.unfold(0, size, 1)
    assert torch.equal(finecounts._sliding(values, size, -1, torch.maximum), expected.amax(1))
    assert torch.equal(finecounts._sliding(values, size, -1, torch.minimum), expected.amin(1))


# --- calibration ---


@pytest.mark.parametrize("seed", range(3))
def test_ece_is_torchmetrics(seed: int) -> None:
    logits, target = batch(seed, h=40, w=50)
    found = finescores.scores(counted(logits, target))["ece"]
    expected = multiclass_calibration_error(
        logits.softmax(1), target, num_classes=4, n_bins=15, norm="l1", ignore_index=VOID
    )
    assert found == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_nll_is_cross_entropy(seed: int) -> None:
    logits, target = batch(seed)
    expected = torch.nn.functional.cross_entropy(logits.double(), target, ignore_index=VOID)
    assert finescores.scores(counted(logits, target))["nll"] == pytest.approx(float(expected), abs=2.0**-16)


@pytest.mark.parametrize("seed", range(2))
def test_bins_in_a_plain_loop(seed: int) -> None:
    logits, target = batch(seed, n=1, h=6, w=7)
    extra = counted(logits, target)["calibration"]
    pixels, correct, confidence = np.zeros(15, int), np.zeros(15, int), np.zeros(15)
    probabilities = logits.double().softmax(1).numpy()
    for i in range(6):
        for j in range(7):
            label = int(target[0, i, j])
            if label == VOID:
                continue
            p = probabilities[0, :, i, j]
            place = int(np.ceil(p.max() * 15)) - 1
            pixels[place] += 1
            correct[place] += p.argmax() == label
            confidence[place] += p.max()
    assert extra["pixels"] == pixels.tolist()
    assert extra["correct"] == correct.tolist()
    assert np.array(extra["confidence"]) * finescores.CONFIDENCE_UNIT == pytest.approx(confidence, abs=1e-5)


def test_certain_and_broken_logits_are_counted() -> None:
    target = torch.zeros(1, 2, 2, dtype=torch.int64)
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 1, 0, 0] = 1e30  # certain, and wrong
    logits[0, 0, 0, 1] = 1e30  # certain, and right
    logits[0, :, 1, 0] = float("nan")
    extra = counted(logits, target)
    assert sum(extra["calibration"]["pixels"]) == 4
    found = finescores.scores(extra)
    assert np.isfinite([found["ece"], found["nll"]]).all()


def test_no_split_of_broken_logits_runs_over() -> None:
    """Cityscapes' validation split has 500 images of 2048 x 1024; at 1e6 nats a pixel its sum was no int64."""
    target = torch.zeros(1, 16, 32, dtype=torch.int64)
    once = counted(torch.full((1, 3, 16, 32), float("nan")), target)["calibration"]["nll"]
    pixel = once // target.numel()
    assert pixel == round(finecounts._LARGEST_NLL / finescores.NLL_UNIT)
    assert 6_700 * 2048 * 1024 * pixel < 2**63
    counts = FineCounts(3, CPU)
    counts._nll += 2048 * 1024 * 499 * pixel
    counts.add(torch.full((1, 3, 1024, 2048), float("nan")), *torch.zeros(2, 1, 1024, 2048, dtype=torch.int64))
    assert counts.gathered(ALONE)["calibration"]["nll"] == 500 * 2048 * 1024 * pixel


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_batches_add_up_in_any_order(seed: int) -> None:
    logits, target = batch(seed, n=4)
    parts = FineCounts(4, CPU)
    for i in (2, 0, 3, 1):
        parts.add(logits[i : i + 1], logits[i : i + 1].argmax(1), target[i : i + 1])
    assert parts.gathered(ALONE) == counted(logits, target)


def test_only_void_counts_nothing() -> None:
    logits, target = batch(0)
    extra = counted(logits, torch.full_like(target, VOID))
    assert all(np.isnan(value) for value in finescores.scores(extra).values())
    assert np.sum(extra["boundary"]) == 0
