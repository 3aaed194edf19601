from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tv

from lossbench.data.augment import MEAN_COLOR, AugmentParams, apply, nearest, sample_params
from lossbench.data.randomness import generator
from lossbench.protocol import Protocol

sizes = st.tuples(st.integers(1, 90), st.integers(1, 90))


def params_of(**changes: object) -> AugmentParams:
    plain = {
        "window": (0, 0, 8, 10),
        "size": (8, 10),
        "flip": False,
        "brightness": 1.0,
        "contrast": 1.0,
        "saturation": 1.0,
        "crop": (8, 10),
        "offset": (0, 0),
    }
    return AugmentParams(**{**plain, **changes})  # type: ignore[arg-type]


def encoded(height: int, width: int, seed: int = 0, block: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """An image whose red value is 20 times the label."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 12, (-(-height // block), -(-width // block)), dtype=np.uint8)
    target = np.kron(coarse, np.ones((block, block), np.uint8))[:height, :width]
    return np.stack([target * 20, target, 255 - target], axis=-1), target


@settings(max_examples=200)
@given(sizes, sizes, st.integers(0, 10**6), st.tuples(st.floats(0.1, 1), st.floats(1, 4)))
def test_drawn_parameters_fit(size: tuple[int, int], crop: tuple[int, int], seed: int, scale: tuple) -> None:
    protocol = Protocol(crop=list(crop), scale=list(scale), jitter=0.4)
    params = sample_params(np.random.default_rng(seed), size, protocol)
    top, left, height, width = params.window
    assert top >= 0
    assert left >= 0
    assert 1 <= height <= size[0] - top
    assert 1 <= width <= size[1] - left
    for resized, offset, extent in zip(params.size, params.offset, crop, strict=True):
        assert 1 <= resized <= extent
        assert 0 <= offset <= extent - resized
    for factor in (params.brightness, params.contrast, params.saturation):
        assert 0.6 <= factor <= 1.4
    image, target = encoded(*size)
    out, labels = apply(image, target, params)
    assert out.shape == (3, *crop)
    assert labels.shape == crop
    assert out.dtype == labels.dtype == torch.uint8
    assert (labels != 255).sum() == params.size[0] * params.size[1]


def test_scale_is_log_uniform_and_the_window_follows_it() -> None:
    protocol = Protocol(crop=[32, 32], scale=[0.5, 2.0])
    drawn = [sample_params(generator("k", i), (200, 200), protocol) for i in range(4000)]
    logs = np.log2([p.size[0] / p.window[2] for p in drawn])
    assert abs(logs.mean()) < 0.05
    np.testing.assert_allclose(np.histogram(logs, 4, (-1.02, 1.02))[0] / 4000, 0.25, atol=0.03)
    assert 0.46 < np.mean([p.flip for p in drawn]) < 0.54
    tops = [p.window[0] / (200 - p.window[2]) for p in drawn]
    np.testing.assert_allclose(np.histogram(tops, 4, (0, 1.001))[0] / 4000, 0.25, atol=0.03)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_flip_probability_at_its_ends(probability: float) -> None:
    protocol = Protocol(crop=[4, 4], flip=probability)
    assert {sample_params(generator(i), (9, 9), protocol).flip for i in range(50)} == {bool(probability)}


def test_every_setting_consumes_the_same_numbers() -> None:
    """Switching jitter or flip off must not move the crops."""
    windows = set()
    for changes in ({}, {"flip": 0.0}, {"jitter": 0.5}):
        rng = generator("x")
        protocol = Protocol(crop=[8, 8], scale=[1.0, 1.0], **changes)
        windows.add((sample_params(rng, (64, 64), protocol).window, float(rng.random())))
    assert len(windows) == 1


def test_plain_crop_is_a_copy() -> None:
    image, target = encoded(20, 30)
    out, labels = apply(image, target, params_of(window=(3, 5, 8, 10)))
    np.testing.assert_array_equal(out.permute(1, 2, 0).numpy(), image[3:11, 5:15])
    np.testing.assert_array_equal(labels.numpy(), target[3:11, 5:15])
    out.zero_()
    labels.zero_()
    assert image.any(), "the source is not touched"
    assert target.any()


def test_flip_moves_image_and_labels_together() -> None:
    image, target = encoded(8, 10)
    out, labels = apply(image, target, params_of(flip=True))
    np.testing.assert_array_equal(labels.numpy(), target[:, ::-1])
    assert (out[0] == labels * 20).all()


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.5, 2.0, 3.0])
def test_image_and_labels_stay_aligned_under_scaling(factor: float) -> None:
    """Away from borders of the blocks, the image must still encode its label; a half-pixel shift would show."""
    image, target = encoded(48, 64, block=16)
    size = (round(48 * factor), round(64 * factor))
    out, labels = apply(image, target, params_of(window=(0, 0, 48, 64), size=size, crop=size))
    wrong = (out[0].int() - labels.int() * 20).abs() > 10
    padded = torch.nn.functional.pad(labels[None, None].float(), (2, 2, 2, 2), mode="replicate")
    high = torch.nn.functional.max_pool2d(padded, 5, 1)[0, 0]
    low = -torch.nn.functional.max_pool2d(-padded, 5, 1)[0, 0]
    assert not (wrong & (high == low)).any()
    # Symmetry: resizing the mirrored pair mirrors the result.
    mirrored, mirrored_labels = apply(
        image[:, ::-1], target[:, ::-1], params_of(window=(0, 0, 48, 64), size=size, crop=size)
    )
    assert (mirrored.flip(-1).int() - out.int()).abs().max() <= 1
    if factor != int(factor) or factor % 2:
        assert (mirrored_labels.flip(-1) == labels).all()


def test_padding_is_mean_color_and_ignored() -> None:
    image, target = encoded(8, 10)
    params = params_of(crop=(12, 14), offset=(1, 3), brightness=0.5)
    out, labels = apply(image, target, params, ignore_index=254)
    inside = torch.zeros(12, 14, dtype=torch.bool)
    inside[1:9, 3:13] = True
    assert (labels[~inside] == 254).all()
    np.testing.assert_array_equal(labels[1:9, 3:13].numpy(), target)
    assert (out.permute(1, 2, 0)[~inside] == torch.tensor(MEAN_COLOR, dtype=torch.uint8)).all(), "jitter spares it"


def test_jitter_changes_colors_only() -> None:
    image, target = encoded(8, 10)
    for change in ({"brightness": 0.5}, {"contrast": 0.5}, {"saturation": 0.0}):
        out, labels = apply(image, target, params_of(**change))
        np.testing.assert_array_equal(labels.numpy(), target)
        assert (out.permute(1, 2, 0).numpy() != image).any(), change
    grey, _ = apply(image, target, params_of(saturation=0.0))
    assert (grey[0] == grey[1]).all()
    dark, _ = apply(image, target, params_of(brightness=0.5))
    assert (dark.permute(1, 2, 0).numpy() == image // 2).mean() > 0.99


def plainly(image: np.ndarray, target: np.ndarray, params: AugmentParams) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by torchvision, one operation after the other."""
    top, left, height, width = params.window
    pixels = torch.from_numpy(image[top : top + height, left : left + width].copy()).permute(2, 0, 1)
    labels = torch.from_numpy(target[top : top + height, left : left + width].copy())
    if params.size != (height, width):
        pixels = tv.resize_image(pixels, list(params.size), antialias=True)
        labels = torch.nn.functional.interpolate(labels[None, None], params.size, mode="nearest-exact")[0, 0]
    if params.flip:
        pixels, labels = pixels.flip(-1), labels.flip(-1)
    pixels = tv.adjust_brightness_image(pixels, params.brightness)
    pixels = tv.adjust_contrast_image(pixels, params.contrast)
    pixels = tv.adjust_saturation_image(pixels, params.saturation)
    padding = (params.offset[1], params.offset[0], *(c - s - o for c, s, o in reversed_axes(params)))
    padded = torch.stack(
        [tv.pad_image(p[None], padding, fill=[float(m)])[0] for p, m in zip(pixels, MEAN_COLOR, strict=True)]
    )
    return padded, tv.pad_image(labels[None], padding, fill=[255.0])[0]


def reversed_axes(params: AugmentParams) -> list[tuple[int, int, int]]:
    return [(params.crop[axis], params.size[axis], params.offset[axis]) for axis in (1, 0)]


@settings(max_examples=150, deadline=None)
@given(sizes, sizes, st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 1.0]))
def test_equals_torchvision_bit_for_bit(size: tuple[int, int], crop: tuple[int, int], seed: int, jitter: float) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    target = rng.integers(0, 20, size, dtype=np.uint8)
    protocol = Protocol(crop=list(crop), scale=[0.3, 3.0], jitter=jitter)
    params = sample_params(rng, size, protocol)
    out, labels = apply(image, target, params)
    expected, expected_labels = plainly(image, target, params)
    assert torch.equal(labels, expected_labels)
    assert torch.equal(out, expected)
    images, targets = torch.zeros(2, 3, *crop, dtype=torch.uint8), torch.zeros(2, *crop, dtype=torch.int64)
    apply(image, target, params, out=(images[1], targets[1]))
    assert torch.equal(images[1], expected)
    assert torch.equal(targets[1], expected_labels.long())
    assert not images[0].any()


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_nearest_is_torchs_nearest_exact(extent: int, size: int) -> None:
    ruler = torch.arange(extent, dtype=torch.float32)[None, None]
    expected = torch.nn.functional.interpolate(ruler, size, mode="nearest-exact")[0, 0]
    np.testing.assert_array_equal(nearest(extent, size), expected.numpy())
