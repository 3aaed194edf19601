"""SegNet and Bayesian SegNet: VGG-16 and its mirror image, joined by pooling indices."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VGG16_BN_Weights

from lossbench.backbones._layers import check_dropout
from lossbench.backbones._weights import check_weights, fetch, load_file, load_state
from lossbench.backbones.base import Backbone
from lossbench.errors import ParameterError
from lossbench.registry import register_backbone

#: Output channels of the convolutions of VGG-16's five blocks; a 2x2 max-pooling ends each.
BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
#: The first block, counted from 0, behind which the Bayesian form drops out: blocks 3 to 5 and their mirror images.
FIRST_CENTRAL = 2

Size = tuple[int, int]


@register_backbone("segnet")
class SegNet(Backbone):
    """SegNet: VGG-16 with BatchNorm and a mirrored decoder that unpools by the encoder's max-pooling indices.

    Sources: Badrinarayanan, Kendall, Cipolla (PAMI 2017); the Bayesian form: Kendall, Badrinarayanan, Cipolla (BMVC
    2017), with dropout after the six central blocks, encoder blocks 3 to 5 (after pooling) and decoder blocks 5 to 3,
    the form that paper found best and with which Monte-Carlo dropout became known in segmentation, on CamVid.

    Plain form. Trunk: all but the last layer. Head: dropout, 3x3 convolution.
    Bayesian form. Trunk: encoder blocks 1 to 3. Head: all behind the first dropout, two encoder blocks and the decoder,
    most of the network: a Monte-Carlo pass costs nearly a whole one.

    Differences from the Caffe release: torchvision's VGG-16 with BatchNorm; any image size, pooling rounds up and
    unpooling returns to the exact size; no local contrast normalisation of the input.

    Args:
        weights: "imagenet" (torchvision's VGG-16 with BatchNorm; `width` 1 only), "none", or a file: VGG-16 with
            BatchNorm or the whole network.
        bayesian: dropout after the six central blocks instead of before the last layer.
        dropout: its rate; null: 0.5 in the Bayesian form, as there, else 0.1.
        width: factor on all channels, for tests and small machines. At least 1/64.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        weights: Literal["imagenet", "none"] | Path = "imagenet",
        bayesian: bool = False,
        dropout: float | None = None,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        check_weights(weights)
        rate = check_dropout((0.5 if bayesian else 0.1) if dropout is None else dropout)
        if not 1 / 64 <= width <= 4:
            raise ParameterError(f"width must be from 1/64 to 4, got {width:g}", parameter="width")
        if weights == "imagenet" and width != 1:
            raise ParameterError(
                f"segnet: ImageNet weights have width 1, got {width:g}", parameter="width", hint="set `weights: none`"
            )
        blocks = [[round(channels * width) for channels in block] for block in BLOCKS]
        self.bayesian = bayesian
        self.encoder = nn.ModuleDict({"features": _encoder(blocks)})  # keys as in torchvision's VGG
        self.decoder = nn.ModuleList([_decoder_block(blocks, index) for index in range(len(blocks))])
        self.dropout = nn.Dropout(rate)
        self.score = nn.Conv2d(blocks[0][0], num_classes, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # as torchvision's VGG
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if isinstance(weights, Path):
            load_file(self, self.encoder, weights, name="segnet")
        elif weights == "imagenet":
            imagenet = VGG16_BN_Weights.IMAGENET1K_V1
            load_state(self, self.encoder, fetch("segnet", imagenet), source=str(imagenet), name="segnet")

    def trunk(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Plain: (N, 64, H, W) at width 1. Bayesian: the pooled map of encoder block 3, (N, 256, H/8, W/8), and the
        pooling indices of blocks 1 to 3; the sizes they lead back to follow from the image's."""
        if self.bayesian:
            return self._encode((images,), 0, FIRST_CENTRAL + 1)
        return self._decode(self._encode((images,), 0, len(BLOCKS)), (images.shape[-2], images.shape[-1]))

    def head(self, features: Tensor | tuple[Tensor, ...], size: Size) -> Tensor:
        """Logits (N, num_classes, *size), `size` being the image's."""
        if isinstance(features, Tensor):
            maps = self.dropout(features)
        else:
            dropped = self.dropout(features[0]), *features[1:]
            maps = self._decode(self._encode(dropped, FIRST_CENTRAL + 1, len(BLOCKS)), size)
        logits: Tensor = self.score(maps)
        return logits

    def encoder_parameters(self) -> list[nn.Parameter]:
        return list(self.encoder.parameters())

    def _encode(self, features: tuple[Tensor, ...], start: int, stop: int) -> tuple[Tensor, ...]:
        """Blocks start to stop - 1 of (map, *indices), with dropout behind each that lies in a head."""
        layers = self.encoder["features"]
        assert isinstance(layers, nn.Sequential)
        maps, *indices = features
        for block in range(start, stop):
            first = sum(3 * len(channels) + 1 for channels in BLOCKS[:block])
            for layer in layers[first : first + 3 * len(BLOCKS[block])]:
                maps = layer(maps)
            maps, places = F.max_pool2d(maps, 2, ceil_mode=True, return_indices=True)
            indices.append(places)
            if start > 0:
                maps = self.dropout(maps)
        return maps, *indices

    def _decode(self, features: tuple[Tensor, ...], size: Size) -> Tensor:
        """All five blocks, from (map, *indices) to the map of the image's size."""
        maps, *indices = features
        for block in reversed(range(len(BLOCKS))):
            maps = self.decoder[block](unpool(maps, indices[block], pooled_size(size, block)))
            if self.bayesian and block >= FIRST_CENTRAL:
                maps = self.dropout(maps)
        return maps


def pooled_size(size: Size, times: int) -> Size:
    """(height, width) after `times` poolings by 2 that round up."""
    return -(-size[0] // 2**times), -(-size[1] // 2**times)


def unpool(maps: Tensor, indices: Tensor, size: Size) -> Tensor:
    """Each value of (N, C, h, w) at the place of (N, C, *size) that max-pooling took it from, and zeros elsewhere.

    What `torch.nn.functional.max_unpool2d` does, but in every dtype and deterministic: windows do not overlap, so no
    two values share a place.
    """
    flat = maps.new_zeros(*maps.shape[:2], size[0] * size[1])
    return flat.scatter(2, indices.flatten(2), maps.flatten(2)).view(*maps.shape[:2], *size)


def _encoder(blocks: list[list[int]]) -> nn.Sequential:
    """The layers of torchvision's `vgg16_bn().features`, in its order."""
    layers: list[nn.Module] = []
    channels = 3
    for block in blocks:
        for out in block:
            layers += _convolution(channels, out, bias=True)
            channels = out
        layers.append(nn.MaxPool2d(2, ceil_mode=True))  # keeps the numbering; `_encode` pools, for the indices
    return nn.Sequential(*layers)


def _decoder_block(blocks: list[list[int]], index: int) -> nn.Sequential:
    """The mirror image of an encoder block: its channels backwards, ending with those of the block before it. The last
    convolution of all, mirror of the first, is the classifier and not here."""
    block = blocks[index]
    backwards = [*block[::-1], blocks[index - 1][-1]] if index else block[::-1]
    pairs = list(itertools.pairwise(backwards))
    return nn.Sequential(*(layer for pair in pairs for layer in _convolution(*pair, bias=False)))


def _convolution(channels: int, out: int, *, bias: bool) -> list[nn.Module]:
    """3x3 convolution, BatchNorm, ReLU. A bias before BatchNorm is idle; torchvision's VGG has it all the same."""
    convolution = nn.Conv2d(channels, out, 3, padding=1, bias=bias)
    return [convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
