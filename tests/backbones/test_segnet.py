"""SegNet: its layers, unpooling, where it drops out, its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import vgg16_bn

from lossbench.backbones.segnet import SegNet, pooled_size, unpool
from lossbench.errors import DataError, ParameterError


def narrow(**params: object) -> SegNet:
    torch.manual_seed(0)
    return SegNet(4, weights="none", width=1 / 16, **params)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(0, 99))
def test_unpooling_is_torchs_and_undoes_pooling(height: int, width: int, channels: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, channels, height, width, generator=generator)
    pooled, indices = F.max_pool2d(maps, 2, ceil_mode=True, return_indices=True)
    assert pooled.shape[-2:] == pooled_size((height, width), 1)
    got = unpool(pooled, indices, (height, width))
    assert torch.equal(got, F.max_unpool2d(pooled, indices, 2, output_size=(height, width)))
    kept = got != 0
    assert torch.equal(got[kept], maps[kept])


@pytest.mark.parametrize("size", [(64, 96), (33, 47)])
def test_unpooling_in_deterministic_mode_and_bfloat16(size: tuple[int, int]) -> None:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            narrow(bayesian=True)(torch.randn(1, 3, *size)).sum().backward()
    finally:
        torch.use_deterministic_algorithms(before)


def layers(network: SegNet) -> list[tuple[int, ...]]:
    """(channels in, channels out, height, width) of the convolutions, in the order in which they run."""
    ran: list[tuple[int, ...]] = []

    def note(layer: nn.Module, _: object, out: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        ran.append((layer.in_channels, layer.out_channels, *out.shape[-2:]))

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    with torch.no_grad():
        network(torch.randn(1, 3, 64, 32))
    return ran


def test_the_decoder_mirrors_the_encoder() -> None:
    ran = layers(narrow().eval())
    encoder, decoder = ran[:13], ran[13:]
    assert len(decoder) == 13
    assert [(out, into, *size) for into, out, *size in decoder[::-1]] == [(4, 4, 64, 32), *encoder[1:]]
    assert [size for _, _, *size in encoder[-3:]] == [[4, 2]] * 3


@pytest.mark.parametrize("bayesian", [False, True])
def test_parameters_of_the_real_one(bayesian: bool) -> None:
    """29.5 million: VGG-16's 14.7 million of convolution, twice."""
    with torch.device("meta"):
        network = SegNet(12, weights="none", bayesian=bayesian)
    convolutions = [part.weight for part in network.modules() if isinstance(part, nn.Conv2d)]
    assert len(convolutions) == 26
    in_encoder = sum(weight.numel() for weight in convolutions[:13])
    assert in_encoder == 14_710_464
    # The mirror image, but for the first convolution: from 3 channels there, to 12 classes here.
    assert sum(weight.numel() for weight in convolutions) == 2 * in_encoder + 9 * 64 * (12 - 3)


def where_dropped(network: SegNet, image: Tensor) -> list[tuple[int, ...]]:
    ran: list[tuple[int, ...]] = []
    network.dropout.register_forward_hook(lambda module, args, out: ran.append(tuple(out.shape[1:])))
    with torch.no_grad():
        network(image)
    return ran


def test_where_it_drops_out() -> None:
    image = torch.randn(1, 3, 64, 64)
    assert where_dropped(narrow(), image) == [(4, 64, 64)]
    # After pooling of encoder blocks 3, 4, 5, and behind decoder blocks 5, 4, 3.
    encoder, decoder = [(16, 8, 8), (32, 4, 4), (32, 2, 2)], [(32, 4, 4), (16, 8, 8), (8, 16, 16)]
    assert where_dropped(narrow(bayesian=True), image) == encoder + decoder


def test_rates() -> None:
    assert narrow().dropout.p == 0.1
    assert narrow(bayesian=True).dropout.p == 0.5
    assert narrow(bayesian=True, dropout=0.2).dropout.p == 0.2


def test_without_dropout_both_forms_are_one() -> None:
    image = torch.randn(2, 3, 45, 70)
    plain, bayesian = narrow(dropout=0.0), narrow(dropout=0.0, bayesian=True)
    assert plain.state_dict().keys() == bayesian.state_dict().keys()
    assert torch.equal(plain(image), bayesian(image))
    assert len(plain.trunk(image)) == 2  # a tensor of two images
    assert len(bayesian.trunk(image)) == 4  # a map and three lots of indices


def test_weights_of_torchvision_fit(tmp_path: Path) -> None:
    torch.manual_seed(5)
    vgg = vgg16_bn()
    for module in vgg.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
    vgg.eval()
    file = tmp_path / "vgg16_bn.pth"
    torch.save({f"features.{k}": v for k, v in vgg.features.state_dict().items()}, file)
    network = SegNet(3, weights=file).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps, *_ = network._encode((image,), 0, 5)
        assert torch.equal(maps, vgg.features(image))
    torch.save({f"features.{k}": v for k, v in vgg.features[:10].state_dict().items()}, file)
    with pytest.raises(DataError, match="missing"):
        SegNet(3, weights=file)


def test_what_does_not_fit() -> None:
    with pytest.raises(ParameterError, match=r"ImageNet weights have width 1, got 0\.5"):
        SegNet(3, width=0.5)
    with pytest.raises(ParameterError, match="width must be from 1/64 to 4, got 0"):
        SegNet(3, weights="none", width=0.0)
