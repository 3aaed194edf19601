from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench import bootstrap, metrics
from lossbench.statistics import t_quantile


def counts(seed: int, seeds: int = 3, images: int = 7, classes: int = 4) -> np.ndarray:
    """TP, FP, FN of random confusion matrices, some classes missing in most images."""
    generator = np.random.default_rng(seed)
    matrices = generator.poisson(3, (seeds, images, classes, classes)) + 20 * np.eye(classes, dtype=np.int64)
    gone = generator.random((images, classes)) < 0.5
    matrices *= ~gone[None, :, :, None] & ~gone[None, :, None, :]
    return metrics.counts_of(matrices)


@pytest.mark.parametrize("seed", range(3))
def test_each_resample_is_the_miou_of_the_drawn_images(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = counts(seed)
    drawn: list[np.ndarray] = []
    real = bootstrap._weights
    monkeypatch.setattr(bootstrap, "_weights", lambda *a: drawn.append(real(*a)) or drawn[-1])
    found = bootstrap.resampled_miou(data, 50)
    (weights,) = drawn
    assert (weights.sum(1) == data.shape[1]).all()
    for resample in range(50):
        images = np.repeat(np.arange(data.shape[1]), weights[resample].astype(int))
        for s in range(data.shape[0]):
            pooled = sum(data[s, image] for image in images)
            expected = 100 * float(metrics.mean(metrics.class_scores(pooled)["iou"]))
            assert found[resample, s] == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = counts(0)
    whole = bootstrap.resampled_miou(data, 100)
    monkeypatch.setattr(bootstrap, "_BLOCK_BYTES", 8 * data.shape[1] * 13)
    parts = bootstrap.resampled_miou(data, 100)
    assert np.array_equal(whole, parts, equal_nan=True)


def test_losses_share_the_images_drawn() -> None:
    data = counts(1)
    other = np.concatenate([data, counts(2)])  # another number of seeds
    assert np.array_equal(
        bootstrap.resampled_miou(other, 40)[:, :3], bootstrap.resampled_miou(data, 40), equal_nan=True
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5))
def test_the_interval_is_of_the_values_and_holds_their_mean(seed: int, seeds: int) -> None:
    values = bootstrap.resampled_miou(counts(seed, seeds, 12), 400)
    if np.isnan(values).any():
        return
    found = bootstrap.interval(values, 12)
    assert values.min() <= found.low <= values.mean() <= found.high <= values.max()


def test_equal_images_and_seeds_leave_nothing_to_vary() -> None:
    one = counts(3, 1, 1, 3)
    data = np.tile(one, (4, 6, 1, 1))
    found = bootstrap.interval(bootstrap.resampled_miou(data, 200), 6)
    expected = 100 * float(metrics.mean(metrics.class_scores(one[0, 0])["iou"]))
    assert (found.low, found.high) == pytest.approx((expected, expected))


@pytest.mark.parametrize("n", [6, 10])
def test_few_seeds_are_covered_as_often_as_by_students_interval(n: int) -> None:
    """The expanded percentile interval of n normal values holds the true mean about as often as the t interval."""
    generator = np.random.default_rng(5)
    held = []
    for _ in range(400):
        seeds = generator.normal(0, 1, n)
        found = bootstrap.interval(np.tile(seeds, (1000, 1)), 1)
        held.append(found.low <= 0 <= found.high)
    assert np.mean(held) > 0.90


#: Share of 20,000 samples of normal seeds whose interval (10,000 resamples) holds the true mean; docs/statistics.md.
COVERAGE = {3: 0.75, 6: 0.93}


@pytest.mark.slow
@pytest.mark.parametrize("n", COVERAGE)
def test_coverage_of_few_seeds_is_what_the_page_says(n: int) -> None:
    generator = np.random.default_rng(11)
    held = []
    for _ in range(2000):
        found = bootstrap.interval(np.broadcast_to(generator.normal(0, 1, n), (4000, n)), 1)
        held.append(found.low <= 0 <= found.high)
    assert np.mean(held) == pytest.approx(COVERAGE[n], abs=0.02)  # 2 standard errors at 3 seeds
    page = (Path(__file__).parents[1] / "docs" / "statistics.md").read_text(encoding="utf-8")
    assert f"{COVERAGE[3]:.2f} of the time with 3 seeds and {COVERAGE[6]:.2f} with 6" in " ".join(page.split())


def test_the_whole_bootstrap_is_a_plain_loop_over_seeds_and_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """From counts to the interval of a difference: in each resample images are drawn once, for all seeds and both
    losses, then seeds, for both losses; counts are pooled, classes averaged, seeds averaged."""
    ours, theirs = counts(0, 6, 9), counts(1, 6, 9)
    number, (seeds, images) = 150, ours.shape[:2]
    drawn: list[np.ndarray] = []
    real = bootstrap._weights
    monkeypatch.setattr(bootstrap, "_weights", lambda *a: drawn.append(real(*a)) or drawn[-1])
    values = bootstrap.resampled_miou(ours, number) - bootstrap.resampled_miou(theirs, number)
    found = bootstrap.interval(values, images)
    assert np.array_equal(*drawn)  # of both losses

    def miou(pooled: list[list[int]]) -> float:
        ious = [tp / (tp + fp + fn) for tp, fp, fn in pooled if tp + fp + fn]
        return 100 * sum(ious) / len(ious)

    means = []
    chosen = np.random.default_rng(bootstrap._SEED + 1).integers(0, seeds, (number, seeds)).tolist()
    for resample in range(number):
        differences = []
        for seed in chosen[resample]:
            pooled = [np.zeros(ours.shape[2:], int), np.zeros(ours.shape[2:], int)]
            for image in range(images):
                for _ in range(int(drawn[0][resample, image])):
                    pooled[0] += ours[seed, image]
                    pooled[1] += theirs[seed, image]
            differences.append(miou(pooled[0].tolist()) - miou(pooled[1].tolist()))
        means.append(sum(differences) / seeds)
    tail = 0.5 * math.erfc(t_quantile(seeds - 1) * math.sqrt(seeds / (seeds - 1)) / math.sqrt(2))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [tail, 1 - tail])), rel=1e-9)
    assert found.low < np.mean(means) < found.high


def test_less_than_six_seeds_cannot_be_covered() -> None:
    """All seeds on one side of the truth: the lowest and highest value drawn do not hold it, 2 / 2^n of the time."""
    found = bootstrap.interval(np.tile(np.array([1.0, 2.0, 3.0]), (1000, 1)), 1)
    assert (found.low, found.high) == pytest.approx((1.0, 3.0), abs=0.02)


def test_one_seed_draws_images_only() -> None:
    values = np.arange(1001.0)[:, None]
    found = bootstrap.interval(values, 5)
    assert (found.low, found.high, found.seeds) == (pytest.approx(25), pytest.approx(975), 1)


def test_levels_are_moved_out_as_hesterberg_says() -> None:
    expected = 0.5 * math.erfc(t_quantile(5) * math.sqrt(6 / 5) / math.sqrt(2))
    values = np.tile(np.arange(6.0), (5000, 1))
    found = bootstrap.interval(values, 3)
    drawn = np.random.default_rng(bootstrap._SEED + 1).integers(0, 6, (5000, 6))
    assert found.low == pytest.approx(np.quantile(drawn.mean(1), expected))
