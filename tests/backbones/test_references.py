"""The same weights in the library's own network, or in a naive one, give the same logits."""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as library
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation import fcn_resnet50

from lossbench.backbones.base import Backbone
from lossbench.backbones.fcn8s import FCN8s, bilinear_kernel
from lossbench.errors import ConfigError, LossbenchError, ParameterError, UnknownNameError
from tests.backbones.conftest import build_small


@pytest.mark.parametrize("training", [False, True])
def test_torchvision_fcn(training: bool) -> None:
    ours = build_small("fcn_resnet50").train(training)
    theirs = fcn_resnet50(weights=None, weights_backbone=None, aux_loss=False, num_classes=5).train(training)
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 65, 97)
    with torch.no_grad():
        torch.manual_seed(1)
        expected = theirs(images)["out"]
        torch.manual_seed(1)
        assert torch.equal(ours(images), expected)


# --- smp ---

SMP = ["Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet"]


def smp_pair(architecture: str, encoder: str = "resnet18", **options: object) -> tuple[Backbone, nn.Module]:
    ours = build_small("smp", architecture=architecture, encoder=encoder)
    theirs = getattr(library, architecture)(encoder, encoder_weights=None, classes=5, **options)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("architecture", [*SMP, "Segformer"])
def test_smp(architecture: str) -> None:
    ours, theirs = smp_pair(architecture)
    images = torch.randn(2, 3, 128, 128) if architecture == "PAN" else torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(ours.eval()(images), theirs.eval()(images))
        if architecture in {"FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus"}:  # their own dropout, their own rate
            torch.manual_seed(1)
            expected = theirs.train()(images)
            torch.manual_seed(1)
            assert torch.equal(ours.train()(images), expected)


def test_smp_dpt() -> None:
    ours, theirs = smp_pair("DPT", "tu-vit_tiny_patch16_224", dynamic_img_size=True)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(ours.eval()(images), theirs.eval()(images))
        torch.manual_seed(1)
        expected = theirs.train()(images)
        torch.manual_seed(1)
        assert torch.equal(ours.train()(images), expected)
        assert ours.eval()(torch.randn(1, 3, 65, 97)).shape == (1, 5, 65, 97)


def test_smp_added_dropout_is_before_the_last_layer() -> None:
    network = build_small("unet", dropout=0.3).train()
    with torch.no_grad():
        features = network.trunk(torch.randn(1, 3, 64, 64))
        torch.manual_seed(1)
        logits = network.head(features, (64, 64))
        torch.manual_seed(1)
        expected = network.segmentation_head(F.dropout(features, 0.3, training=True))
    assert torch.equal(logits, expected)


@pytest.mark.parametrize("architecture", ["DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet"])
def test_smp_pooled_batchnorm_needs_two_images(architecture: str) -> None:
    network = build_small("smp", architecture=architecture).train()
    with pytest.raises(ConfigError, match="one image at a time"):
        network(torch.randn(1, 3, 64, 64))
    with torch.no_grad():
        assert network.eval()(torch.randn(1, 3, 64, 64)).shape == (1, 5, 64, 64)


@pytest.mark.parametrize(
    ("params", "error", "words", "hint"),
    [
        ({"architecture": "Unett"}, UnknownNameError, "unknown smp architecture 'Unett'", "did you mean 'unet'?"),
        ({"architecture": "xyz"}, UnknownNameError, "unknown smp architecture 'xyz'", "known: Unet, "),
        ({"encoder": "resnet8"}, UnknownNameError, "unknown smp encoder 'resnet8'", "did you mean 'resnet18'?"),
        ({"encoder": "tu-resnt18"}, UnknownNameError, "unknown smp encoder", "did you mean 'tu-resnet18'?"),
        ({"architecture": "Linknet", "encoder": "mit_b0"}, ConfigError, "cannot build Linknet on encoder 'mit", ""),
        ({"architecture": "DPT", "encoder": "resnet18"}, ConfigError, "cannot build DPT", "another encoder"),
        (
            {"encoder": "resnext101_32x16d", "weights": "imagenet"},
            ParameterError,
            "no ImageNet weights for encoder",
            "`weights: none`",
        ),
    ],
)
def test_smp_bad_names(params: dict[str, str], error: type[LossbenchError], words: str, hint: str) -> None:
    with pytest.raises(error, match=words) as caught:
        build_small("smp", **{"architecture": "Unet", **params})
    assert hint in str(caught.value.hint)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "encoder", ["efficientnet-b0", "mit_b0", "mobilenet_v2", "tu-test_resnet", "timm-efficientnet-b0"]
)
def test_smp_encoders_draw_nothing(encoder: str) -> None:
    """efficientnet and mit have stochastic depth by default."""
    network = build_small("smp", architecture="FPN", encoder=encoder).train()
    before = torch.get_rng_state()
    with torch.no_grad():
        network.trunk(torch.randn(2, 3, 64, 64, generator=torch.Generator()))
    assert torch.equal(before, torch.get_rng_state())


# --- fcn_timm ---


def test_timm_without_skips_is_encoder_and_head() -> None:
    network = build_small("fcn_timm", output_stride=8, head_stride=8).eval()
    images = torch.randn(2, 3, 64, 96)
    encoder = timm.create_model("test_resnet", features_only=True, output_stride=8).eval()
    encoder.load_state_dict(network.encoder.state_dict())
    with torch.no_grad():
        deep = encoder(images)[-1]
        assert deep.shape[-2:] == (8, 12)
        logits = F.interpolate(network.classifier(deep), (64, 96), mode="bilinear", align_corners=False)
        assert torch.equal(network(images), logits)


def test_timm_skips_naively() -> None:
    network = build_small("fcn_timm", head_stride=4).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        maps = network.encoder(images)
        assert [m.shape[-2] for m in maps] == [32, 16, 8, 4, 2]
        fused = network.laterals[0](maps[4])
        for lateral, level in zip(network.laterals[1:], (maps[3], maps[2], maps[1]), strict=True):
            up = F.interpolate(fused, scale_factor=2.0, mode="bilinear", align_corners=False)
            fused = lateral(level) + up
        logits = F.interpolate(network.classifier(fused), (64, 96), mode="bilinear", align_corners=False)
    assert torch.allclose(network(images), logits, atol=1e-5)


@pytest.mark.parametrize(("head_stride", "size"), [(4, 16), (8, 8), (16, 4), (32, 2)])
def test_timm_head_stride(head_stride: int, size: int) -> None:
    network = build_small("fcn_timm", head_stride=head_stride, channels=24).eval()
    with torch.no_grad():
        assert network.trunk(torch.randn(1, 3, 64, 64)).shape == (1, 24, size, size)


@pytest.mark.parametrize("encoder", ["vit_tiny_patch16_224", "swin_s3_tiny_224", "pvt_v2_b0", "mobilevit_xxs"])
def test_timm_transformers_take_any_size(encoder: str) -> None:
    network = build_small("fcn_timm", encoder=encoder).train()
    before = torch.get_rng_state()
    with torch.no_grad():
        assert network.trunk(torch.zeros(2, 3, 65, 97)).shape[:2] == (2, 64)
        assert torch.equal(before, torch.get_rng_state())
        assert network(torch.zeros(2, 3, 65, 97)).shape == (2, 5, 65, 97)


@pytest.mark.parametrize(
    ("params", "error", "words", "hint"),
    [
        ({"encoder": "resnt18"}, UnknownNameError, "unknown timm encoder 'resnt18'", "did you mean 'resnet18'?"),
        ({"encoder": "qqqqqq"}, UnknownNameError, "unknown timm encoder", "timm has "),
        ({"encoder": "resnet18.a1in1k"}, UnknownNameError, "unknown weights", "did you mean 'resnet18.a1_in1k'?"),
        ({"encoder": "vgg11", "output_stride": 8}, ParameterError, "no output stride 8", "output_stride: 32"),
        ({"encoder": "mixer_s32_224"}, ConfigError, "images of one size only", "convolutional"),
        ({"channels": 0}, ParameterError, "channels must be positive", ""),
        ({"output_stride": 4}, ParameterError, "output_stride", ""),
    ],
)
def test_timm_bad_parameters(params: dict[str, object], error: type[LossbenchError], words: str, hint: str) -> None:
    with pytest.raises(error, match=words) as caught:
        build_small("fcn_timm", **params)
    assert hint in str(caught.value.hint)


# --- FCN-8s ---


@pytest.fixture(scope="module")
def fcn8s() -> FCN8s:
    network = build_small("fcn8s_vgg16")
    assert isinstance(network, FCN8s)
    return network.eval()


def test_bilinear_kernel() -> None:
    expected = torch.tensor([0.25, 0.75, 0.75, 0.25])
    assert torch.equal(bilinear_kernel(4), torch.outer(expected, expected))
    assert torch.equal(bilinear_kernel(3), torch.outer(torch.tensor([0.5, 1, 0.5]), torch.tensor([0.5, 1, 0.5])))


def test_fcn8s_starts_bilinear_and_with_zero_scores(fcn8s: FCN8s) -> None:
    maps = torch.randn(2, 5, 6, 7)
    for layer in (fcn8s.upscore2, fcn8s.upscore4):
        with torch.no_grad():
            up = layer(maps)
        expected = F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)
        assert up.shape == expected.shape
        assert torch.allclose(up[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-6)
    assert not fcn8s.score.weight.any()
    assert not fcn8s.score_pool3.weight.any()
    assert not fcn8s.score_pool4.weight.any()


def test_fcn8s_fully_connected_layers_became_convolutions(fcn8s: FCN8s) -> None:
    """At a position with its whole window, fc6 computes what a linear layer on the flattened window does."""
    fc6 = fcn8s.encoder["fc6"]
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        pool5 = fcn8s.encoder["features"](images)
        assert pool5.shape == (1, 512, 7, 7)
        expected = F.relu(F.linear(pool5.flatten(1), fc6.weight.flatten(1), fc6.bias))
        got = fcn8s.trunk(images)[2][..., 3, 3]
    assert torch.allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (40, 30)])
def test_fcn8s_naively(fcn8s: FCN8s, size: tuple[int, int]) -> None:
    """The graph of Long et al. 2015 layer by layer, maps brought to size by explicit indexing."""
    generator = torch.Generator().manual_seed(2)
    weights = {k: v if v.any() else torch.randn(v.shape, generator=generator) for k, v in fcn8s.state_dict().items()}
    original = {k: v.clone() for k, v in fcn8s.state_dict().items() if not v.any()}
    fcn8s.load_state_dict(weights)
    images = torch.randn(1, 3, *size, generator=generator)

    def convolve(x: Tensor, key: str, padding: int = 0) -> Tensor:
        return F.conv2d(x, weights[f"{key}.weight"], weights[f"{key}.bias"], padding=padding)

    x, pools, index = images, [], 0
    for convolutions in (2, 2, 3, 3, 3):
        for _ in range(convolutions):
            x = F.relu(convolve(x, f"encoder.features.{index}", 1))
            index += 2
        x = F.max_pool2d(x, 2, ceil_mode=True)
        pools.append(x)
        index += 1
    score = convolve(F.relu(convolve(F.relu(convolve(x, "encoder.fc6", 3)), "encoder.fc7")), "score")
    for name, skip in (("4", pools[3]), ("3", pools[2])):
        up = "upscore2" if name == "4" else "upscore4"
        side = convolve(skip, f"score_pool{name}")
        wide = F.conv_transpose2d(score, weights[f"{up}.weight"], stride=2, padding=1)
        score = side + wide[:, :, : side.shape[2], : side.shape[3]]
    rows, columns = ((torch.arange(n) + 0.5) / 8 - 0.5 for n in size)
    expected = _sample(_sample(score, rows, 2), columns, 3)
    try:
        with torch.no_grad():
            got = fcn8s(images)
    finally:
        fcn8s.load_state_dict(original, strict=False)
    assert torch.allclose(got, expected, atol=1e-4 * expected.abs().max().item())


def _sample(maps: Tensor, positions: Tensor, dim: int) -> Tensor:
    """Linear interpolation along `dim` at fractional positions, clamped at the borders."""
    last = maps.shape[dim] - 1
    positions = positions.clamp(0, last)
    low = positions.floor().long()
    high = (low + 1).clamp(max=last)
    shape = [1] * maps.ndim
    shape[dim] = -1
    share = (positions - low).view(shape)
    return maps.index_select(dim, low) * (1 - share) + maps.index_select(dim, high) * share
