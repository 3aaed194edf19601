from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from lossbench.datasets.streets import Streets
from lossbench.datasets.streetscene import classes as cl
from lossbench.datasets.streetscene.labels import flip_labels
from lossbench.datasets.streetscene.plan import MIN_THINGS, thing_counts
from lossbench.errors import DataError, ParameterError
from lossbench.registry import Registry

C = len(cl.NAMES)


def counts_of(dataset: Streets, split: str = "train") -> NDArray[np.int64]:
    targets = [dataset.load(split, i)[1].ravel() for i in range(len(dataset.names(split)))]
    return np.bincount(np.concatenate(targets), minlength=256)


def test_same_parameters_same_pixels_in_any_order() -> None:
    first, second = Streets(train_images=4, val_images=2), Streets(train_images=4, val_images=2)
    forward = [first.load("train", i) for i in range(4)]
    backward = [second.load("train", i) for i in reversed(range(4))][::-1]
    for (a, b), (c, d) in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, d)


def test_images_differ_by_index_split_and_seed() -> None:
    one, two = Streets(train_images=4, val_images=4), Streets(train_images=4, val_images=4, seed=1)
    images = [one.load("train", 0)[0], one.load("train", 1)[0], one.load("val", 0)[0], two.load("train", 0)[0]]
    assert len({image.tobytes() for image in images}) == 4


@pytest.mark.parametrize("imbalance", [10.0, 100.0, 1000.0])
def test_measured_imbalance_follows_the_dial(imbalance: float) -> None:
    counts = counts_of(Streets(imbalance=imbalance, train_images=100))[:C]
    assert imbalance / 1.5 < counts.max() / counts.min() < imbalance * 1.5
    # And the classes between decay as they should.
    np.testing.assert_allclose(counts / counts.sum(), cl.target_shares(imbalance), rtol=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("tail_size", [0.6, 1.8])
def test_size_of_rare_things_leaves_the_imbalance_alone(tail_size: float) -> None:
    counts = counts_of(Streets(tail_size=tail_size, train_images=120))[:C]
    assert 100 / 1.6 < counts.max() / counts.min() < 100 * 1.6


def test_tail_size_scales_areas_and_numbers() -> None:
    small, large = (Streets(tail_size=size)._plan[0] for size in (0.6, 1.8))
    for c in (cl.PERSON, cl.SIGN, cl.TRAIN):
        assert large.areas[c] / small.areas[c] == pytest.approx(9.0, rel=1e-6)
        assert small.rates[c] > 3 * large.rates[c]


@given(st.floats(5, 10_000))
def test_target_shares_are_a_geometric_decay(imbalance: float) -> None:
    shares = cl.target_shares(imbalance)
    assert shares.sum() == pytest.approx(1)
    assert shares[0] / shares[-1] == pytest.approx(imbalance)
    np.testing.assert_allclose(shares[1:] / shares[:-1], shares[1] / shares[0])


@given(st.integers(1, 50), st.floats(0, 300), st.integers(0, 9))
def test_totals_of_things_are_exact(images: int, total: float, seed: int) -> None:
    counts = thing_counts(np.random.default_rng(seed), images, {cl.CAR: total})[cl.CAR]
    assert counts.shape == (images,)
    assert counts.sum() == max(MIN_THINGS, round(total))


def test_every_class_is_in_both_splits_at_any_dial() -> None:
    dataset = Streets(imbalance=3000.0, train_images=60, val_images=40)
    for split in dataset.splits:
        assert (counts_of(dataset, split)[:C] > 0).all(), split


@pytest.mark.parametrize("size", [(32, 32), (40, 120), (97, 65)])
def test_any_size(size: tuple[int, int]) -> None:
    dataset = Streets(height=size[0], width=size[1], train_images=3, val_images=1)
    for index in range(3):
        image, target = dataset.load("train", index)
        assert image.shape == (*size, 3)
        assert target.shape == size
        assert image.std() > 5


def test_label_noise_is_of_the_training_split_only() -> None:
    clean, noisy = (Streets(label_noise=share, train_images=6, val_images=2) for share in (0.0, 0.2))
    for index in range(6):
        (image, truth), (same, labels) = clean.load("train", index), noisy.load("train", index)
        np.testing.assert_array_equal(image, same)
        valid = truth < C
        assert (labels[~valid] == 255).all()
        assert (labels[valid] < C).all()
        assert (labels != truth)[valid].mean() == pytest.approx(0.2, abs=1e-3)
    np.testing.assert_array_equal(clean.load("val", 0)[1], noisy.load("val", 0)[1])


@settings(max_examples=30)
@given(st.floats(0, 0.9), st.integers(0, 99), st.integers(1, 12))
def test_flips_are_exact_and_wrong(share: float, seed: int, present: int) -> None:
    rng = np.random.default_rng(seed)
    target = rng.choice([*range(present), 255], (20, 30)).astype(np.uint8)
    flipped = flip_labels(rng, target, share, C)
    valid = target < C
    expected = round(share * valid.sum()) if len(np.unique(target[valid])) > 1 else 0
    assert (flipped != target).sum() == expected
    assert (flipped[~valid] == 255).all()
    assert set(np.unique(flipped)) <= set(np.unique(target))


def test_wrong_labels_come_in_patches() -> None:
    truth = np.repeat(np.arange(4, dtype=np.uint8), 24 * 96 // 4 * 4).reshape(96, 96)
    wrong = flip_labels(np.random.default_rng(0), truth, 0.2, C) != truth
    # Of neighbours of wrong pixels, far more than 20 % are wrong.
    assert wrong[:, 1:][wrong[:, :-1]].mean() > 0.7


def test_fingerprint_is_of_the_parameters_that_matter() -> None:
    base = Streets()
    assert Streets(val_images=7).fingerprint("train") == base.fingerprint("train")
    assert Streets(val_images=7).fingerprint("val") != base.fingerprint("val")
    changed: list[dict[str, Any]] = [{"seed": 1}, {"imbalance": 50.0}, {"height": 64}, {"train_images": 9}]
    prints = {Streets(**options).fingerprint("train") for options in [{}, *changed]}
    assert len(prints) == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [("imbalance", 1.0), ("imbalance", 1e6), ("height", 8), ("label_noise", 0.95), ("tail_size", 0.0), ("seed", -1)],
)
def test_values_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ParameterError, match=f"streets: '{name}' must lie in") as caught:
        Registry("dataset").get("streets").build({name: value})
    assert caught.value.parameter == name


def test_unknown_split() -> None:
    with pytest.raises(DataError, match="no split 'test'"):
        Streets().names("test")


# --- difficulty: color alone must not do ---


def _miou(predictions: list[NDArray[Any]], targets: list[NDArray[Any]]) -> float:
    matrix = np.zeros((C, C))
    for prediction, target in zip(predictions, targets, strict=True):
        valid = target < C
        matrix += np.bincount(target[valid].astype(int) * C + prediction[valid], minlength=C * C).reshape(C, C)
    return float(np.mean(np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))))


def _color_codes(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    return (image // 16).astype(np.int64) @ np.array([256, 16, 1])


def _conv(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class SmallFCN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quarter = nn.Sequential(_conv(3, 16, 2), _conv(16, 32, 2))
        self.eighth = nn.Sequential(_conv(32, 48, 2), _conv(48, 48, 1, 2), _conv(48, 48, 1, 4))
        self.out = nn.Sequential(_conv(80, 32), nn.Conv2d(32, C, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        quarter = self.quarter(images)
        wide = nn.functional.interpolate(self.eighth(quarter), size=quarter.shape[-2:])
        logits = self.out(torch.cat([wide, quarter], 1))
        return nn.functional.interpolate(logits, size=images.shape[-2:], mode="bilinear")


@pytest.mark.slow
def test_a_color_classifier_stays_far_below_a_small_fcn() -> None:
    dataset = Streets(train_images=80, val_images=30)
    train = [dataset.load("train", i) for i in range(80)]
    images, truths = zip(*(dataset.load("val", i) for i in range(30)), strict=True)
    # The best classifier of single pixels by color: Bayes on a 16^3 histogram, with priors and with equal priors.
    histogram = np.zeros((16**3, C))
    for image, target in train:
        valid = target < C
        np.add.at(histogram, (_color_codes(image)[valid], target[valid]), 1)
    by_color = max(
        _miou([table.argmax(1)[_color_codes(i)] for i in images], list(truths))
        for table in (histogram, histogram / histogram.sum(0))
    )
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = SmallFCN()
    steps = 150
    inputs = torch.from_numpy(np.stack([image for image, _ in train])).permute(0, 3, 1, 2).float() / 127.5 - 1
    labels = torch.from_numpy(np.stack([target for _, target in train])).long()
    weights = torch.bincount(labels[labels < C], minlength=C).float().pow(-0.5)
    optimizer = torch.optim.AdamW(net.parameters(), 6e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, steps)
    for step in range(steps):
        chosen = torch.randint(len(train), (6,), generator=generator)
        x, y = inputs[chosen], labels[chosen]
        if step % 2:
            x, y = x.flip(-1), y.flip(-1)
        loss = nn.functional.cross_entropy(net(x), y, weight=weights / weights.mean(), ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    net.eval()
    with torch.no_grad():
        batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
        by_context = _miou(list(net(batch).argmax(1).numpy()), list(truths))
    print(f"mIoU by color {by_color:.3f}, by a small FCN {by_context:.3f}")
    assert by_color < 0.17
    assert by_context > 2 * by_color
    assert by_context > 0.27
