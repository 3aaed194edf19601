"""Where each architecture of segmentation-models-pytorch is cut into trunk and head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lossbench.backbones._layers import check_dropout, crop, pad_to_multiple, switch_off_dropout
from lossbench.backbones.base import Backbone, Narrow
from lossbench.errors import ConfigError

#: Rate of the dropout that is put before the last layer of an architecture without one.
ADDED_DROPOUT = 0.1
#: Architectures with a BatchNorm after global pooling, which torch cannot train on a single image.
POOLED = frozenset({"DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet"})
#: DPT halves its last map once more than its encoder does, and needs it even.
STRIDE_FACTOR = {"DPT": 2}
#: PAN's pyramid halves the encoder's map (stride 16) three times.
LEAST_SIDE = {"PAN": 128}


class SegmentationModel(Backbone):
    """An smp model whose only dropout, its own or an added one, sits between decoder and segmentation head.

    FPN and PSPNet end their decoders in a channel dropout (`nn.Dropout2d`, 0.2): it stays what and where it is. Unet,
    UnetPlusPlus, MAnet, Linknet, PAN, UPerNet and Segformer have none: an element-wise dropout (0.1) is added before
    the last layer, for every loss. Trunk: encoder and decoder. Head: dropout, segmentation head.

    Dropout and drop path inside the encoder are off. Image sides that do not divide by the encoder's stride are
    zero-padded in the trunk, and the logits cropped in the head. Submodules are named as in smp, so its state dicts
    load.

    Args:
        model: an smp model without classification head.
        dropout: the dropout's rate; None: the architecture's own, or 0.1 where it has none.
    """

    def __init__(self, model: Any, *, dropout: float | None) -> None:
        super().__init__()
        self.encoder = model.encoder
        self.decoder = model.decoder
        self.segmentation_head = model.segmentation_head
        self.name = type(model).__name__
        divisor = int(self.encoder.output_stride) * STRIDE_FACTOR.get(self.name, 1)
        self.multiple = divisor if model.requires_divisible_input_shape else 1
        switch_off_dropout(self.encoder)
        self.place_dropout(dropout)

    def place_dropout(self, rate: float | None) -> None:
        """Take the decoder's dropout out of the decoder, or make one."""
        own = getattr(self.decoder, "dropout", None)
        self.dropout = own if own is not None else nn.Dropout(ADDED_DROPOUT)
        if own is not None:
            self.decoder.dropout = nn.Identity()
        _set_rate(self.dropout, rate)

    def encode(self, images: Tensor) -> Any:
        """The encoder's features of the padded images."""
        if self.name in POOLED and self.training and images.shape[0] < 2:
            raise ConfigError(
                f"{self.name} cannot be trained on one image at a time: its global pooling is batch-normalised",
                hint="set batch_size / accumulate to 2 or more",
            )
        return self.encoder(pad_to_multiple(images, self.multiple, LEAST_SIDE.get(self.name, 1)))

    def trunk(self, images: Tensor) -> Any:
        """(N, 3, H, W) -> the decoder's output."""
        return self.decoder(self.encode(images))

    def refine(self, features: Any) -> Tensor:
        """What lies between the trunk and smp's segmentation head."""
        refined: Tensor = self.dropout(features)
        return refined

    def narrow(self, features: Any, size: tuple[int, int]) -> Narrow | None:
        convolution, upsampling, *_ = self.segmentation_head
        if not isinstance(upsampling, nn.Upsample):  # a decoder that ends at full size
            return None
        assert isinstance(upsampling.scale_factor, float)
        return _before_widening(convolution(self.refine(features)), upsampling.scale_factor)

    def head(self, features: Any, size: tuple[int, int]) -> Tensor:
        narrow = self.narrow(features, size)
        if narrow is not None:
            return narrow.widened(size)
        return crop(self.segmentation_head(self.refine(features)), size)

    def encoder_parameters(self) -> list[nn.Parameter]:
        return list(self.encoder.parameters())


class DPT(SegmentationModel):
    """smp's DPT, cut at its own dropout, the last but one layer of the segmentation head."""

    def place_dropout(self, rate: float | None) -> None:
        _set_rate(self.segmentation_head.head[3], rate)

    def trunk(self, images: Tensor) -> Tensor:
        maps, prefix_tokens = self.encode(images)
        features: Tensor = self.segmentation_head.head[:3](self.decoder(maps, prefix_tokens))
        return features

    def narrow(self, features: Tensor, size: tuple[int, int]) -> Narrow:
        return _before_widening(self.segmentation_head.head[3:](features), self.segmentation_head.upsampling_factor)


class DeepLabV3(SegmentationModel):
    """smp's DeepLabV3, cut at its own dropout (0.5), which ends the ASPP.

    Trunk: encoder and ASPP. Head: dropout, 3x3 convolution, BatchNorm, ReLU, segmentation head.
    """

    def place_dropout(self, rate: float | None) -> None:
        _set_rate(self.decoder.aspp.project[3], rate)

    def trunk(self, images: Tensor) -> Tensor:
        return _pyramid(self.decoder.aspp, self.encode(images)[-1])

    def refine(self, features: Tensor) -> Tensor:
        decoder = self.decoder
        refined: Tensor = decoder.relu(decoder.bn(decoder.conv(decoder.aspp.project[3:](features))))
        return refined


class DeepLabV3Plus(SegmentationModel):
    """smp's DeepLabV3+, cut at its own dropout (0.5), which ends the ASPP.

    Trunk: encoder, ASPP and the low-level branch. Head: dropout, the rest of the decoder, segmentation head.
    """

    def place_dropout(self, rate: float | None) -> None:
        _set_rate(self.decoder.aspp[0].project[3], rate)

    def trunk(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.encode(images)
        return _pyramid(self.decoder.aspp[0], maps[-1]), self.decoder.block1(maps[2])

    def refine(self, features: tuple[Tensor, Tensor]) -> Tensor:
        pyramid, low_level = features
        decoder = self.decoder
        high_level = decoder.up(decoder.aspp[1:](decoder.aspp[0].project[3:](pyramid)))
        refined: Tensor = decoder.block2(torch.cat([high_level, low_level], dim=1))
        return refined


def _before_widening(logits: Tensor, factor: float) -> Narrow:
    """smp widens with the corners aligned."""
    return Narrow(logits, (int(logits.shape[-2] * factor), int(logits.shape[-1] * factor)), align_corners=True)


def _pyramid(aspp: Any, features: Tensor) -> Tensor:
    """Atrous spatial pyramid pooling up to its dropout (Chen et al. 2017, section 3.3)."""
    pyramid: Tensor = aspp.project[:3](torch.cat([branch(features) for branch in aspp.convs], dim=1))
    return pyramid


def _set_rate(dropout: Any, rate: float | None) -> None:
    dropout.inplace = False  # the trunk's features are used by every pass
    if rate is not None:
        dropout.p = check_dropout(rate)


#: The architectures that are cut at a place of their own.
CUTS: dict[str, type[SegmentationModel]] = {"DPT": DPT, "DeepLabV3": DeepLabV3, "DeepLabV3Plus": DeepLabV3Plus}
