"""FCN-8s on VGG-16, the network of the FCN paper."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VGG16_Weights, vgg16

from lossbench.backbones._layers import check_dropout, crop
from lossbench.backbones._weights import State, check_weights, fetch, load_file, load_state
from lossbench.backbones.base import Backbone, Narrow
from lossbench.registry import register_backbone

#: Indices of pool3 and pool4 in torchvision's `vgg16().features`.
POOL3, POOL4 = 16, 23


@register_backbone("fcn8s_vgg16")
class FCN8s(Backbone):
    """FCN-8s on VGG-16 with dropout after fc6 and fc7 (Long, Shelhamer, Darrell, CVPR 2015, sections 4.1 to 4.3).

    fc6 and fc7 are convolutions that hold the classifier's weights; skips from pool4 and pool3 are summed with the
    upsampled scores; scoring layers start at zero and the two inner upsamplings at bilinear, both then learned;
    the last upsampling (x8) is fixed bilinear.

    Trunk: VGG-16 up to the ReLU of fc6, and the scores of the two skips, which no dropout touches. Head: dropout,
    fc7, dropout, score, fusion, upsampling.

    Differences from the Caffe release: instead of padding the image by 100 pixels and cropping at fixed offsets, fc6
    is padded by 3 and pooling rounds up, so any image size works and the maps stay aligned; the three stages (32s,
    16s, 8s) are trained at once, without the fixed scaling of the skips that goes with that in Shelhamer et al.
    (PAMI 2017), which was fitted to Caffe's unnormalised activations.

    Args:
        weights: "imagenet" (torchvision's VGG-16), "none", or a file: VGG-16 or the whole network.
        dropout: rate of both dropouts.
    """

    def __init__(
        self, num_classes: int, *, weights: Literal["imagenet", "none"] | Path = "imagenet", dropout: float = 0.5
    ) -> None:
        super().__init__()
        check_weights(weights)
        check_dropout(dropout)
        vgg = vgg16(weights=None)
        for layer in vgg.features:
            if isinstance(layer, nn.MaxPool2d):
                layer.ceil_mode = True
        fc6 = _as_convolution(vgg.classifier[0], in_channels=512, kernel_size=7)
        fc7 = _as_convolution(vgg.classifier[3], in_channels=4096, kernel_size=1)
        self.encoder = nn.ModuleDict({"features": vgg.features, "fc6": fc6, "fc7": fc7})
        self.dropout6 = nn.Dropout(dropout)
        self.dropout7 = nn.Dropout(dropout)
        self.score = _zero_convolution(4096, num_classes)
        self.score_pool4 = _zero_convolution(512, num_classes)
        self.score_pool3 = _zero_convolution(256, num_classes)
        self.upscore2 = _bilinear_deconvolution(num_classes)
        self.upscore4 = _bilinear_deconvolution(num_classes)
        if isinstance(weights, Path):
            load_file(self, self.encoder, weights, name="fcn8s_vgg16", convert=_convolutionise)
        elif weights == "imagenet":
            imagenet = VGG16_Weights.IMAGENET1K_V1
            state = fetch("fcn8s_vgg16", imagenet)
            load_state(self, self.encoder, state, source=str(imagenet), name="fcn8s_vgg16", convert=_convolutionise)

    def trunk(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, H, W) -> scores of pool3 (stride 8) and of pool4 (stride 16), fc6 (N, 4096, H/32, W/32)."""
        features = self.encoder["features"]
        assert isinstance(features, nn.Sequential)
        pool3 = features[: POOL3 + 1](images)
        pool4 = features[POOL3 + 1 : POOL4 + 1](pool3)
        fc6 = F.relu(_convolve(self.encoder["fc6"], features[POOL4 + 1 :](pool4)))
        return self.score_pool3(pool3), self.score_pool4(pool4), fc6

    def narrow(self, features: tuple[Tensor, Tensor, Tensor], size: tuple[int, int]) -> Narrow:
        score3, score4, fc6 = features
        fc7 = F.relu(self.encoder["fc7"](self.dropout6(fc6)))
        score = self.score(self.dropout7(fc7))
        # Maps are rounded up, so an upsampled one may be larger than its skip, never smaller.
        score = score4 + crop(self.upscore2(score), _size(score4))
        score = score3 + crop(self.upscore4(score), _size(score3))
        return Narrow(score, (8 * score.shape[-2], 8 * score.shape[-1]))

    def head(self, features: tuple[Tensor, Tensor, Tensor], size: tuple[int, int]) -> Tensor:
        return self.narrow(features, size).widened(size)

    def encoder_parameters(self) -> list[nn.Parameter]:
        return list(self.encoder.parameters())


def bilinear_kernel(size: int) -> Tensor:
    """The (size, size) kernel with which a transposed convolution of stride (size + 1) // 2 interpolates bilinearly
    (Long et al. 2015, section 3.3)."""
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    line = 1 - (torch.arange(size) - centre).abs() / factor
    return line[:, None] * line[None, :]


def _bilinear_deconvolution(channels: int) -> nn.ConvTranspose2d:
    """Upsampling by 2 that starts bilinear, each channel on its own, and is learned."""
    layer = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[range(channels), range(channels)] = bilinear_kernel(4)
    return layer


def _zero_convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    layer = nn.Conv2d(in_channels, out_channels, 1)
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _as_convolution(linear: nn.Module, *, in_channels: int, kernel_size: int) -> nn.Conv2d:
    """The convolution that computes `linear` at every position; its parameters are reused, not copied."""
    assert isinstance(linear, nn.Linear)
    with torch.device("meta"):  # neither memory nor random numbers for weights that are replaced at once
        layer = nn.Conv2d(in_channels, linear.out_features, kernel_size, padding=kernel_size // 2)
    weight = linear.weight.detach().view(linear.out_features, in_channels, kernel_size, kernel_size)
    layer.weight = nn.Parameter(weight)
    layer.bias = nn.Parameter(linear.bias.detach())
    return layer


def _convolve(layer: nn.Module, features: Tensor) -> Tensor:
    """A "same" convolution; on a CPU by unfolding, as oneDNN takes 50 times as long to differentiate the 103 million
    weights of fc6 on a small map (28 s against 0.5 s on 3 x 4 positions)."""
    assert isinstance(layer, nn.Conv2d)
    if features.device.type != "cpu" or layer.bias is None:
        result: Tensor = layer(features)
        return result
    columns = F.unfold(features, layer.kernel_size, padding=int(layer.padding[0]))
    product = F.linear(columns.mT, layer.weight.flatten(1), layer.bias)
    return product.mT.reshape(features.shape[0], -1, *features.shape[-2:])


def _convolutionise(state: State) -> State:
    """torchvision's VGG-16 keys and shapes -> those of the encoder here."""
    renamed = {"classifier.0": ("fc6", (512, 7, 7)), "classifier.3": ("fc7", (4096, 1, 1))}
    result = dict(state)
    for old, (new, shape) in renamed.items():
        weight = result.get(f"{old}.weight")
        if weight is None or weight.ndim != 2 or weight[0].numel() != shape[0] * shape[1] * shape[2]:
            continue
        result[f"{new}.weight"] = result.pop(f"{old}.weight").view(-1, *shape)
        if f"{old}.bias" in result:
            result[f"{new}.bias"] = result.pop(f"{old}.bias")
    return result


def _size(features: Tensor) -> tuple[int, int]:
    return features.shape[-2], features.shape[-1]
