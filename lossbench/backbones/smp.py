"""segmentation-models-pytorch: any of its architectures on any of its encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import segmentation_models_pytorch as library
import timm
import torch
from torch import Tensor, nn

from lossbench.backbones._layers import check_dropout, crop, pad_to_multiple, switch_off_dropout
from lossbench.backbones._weights import load_file, model_hub
from lossbench.backbones.base import Backbone
from lossbench.errors import ConfigError, ParameterError, UnknownNameError, did_you_mean
from lossbench.registry import register_backbone

#: Rate of the dropout that is put before the last layer of an architecture without one.
ADDED_DROPOUT = 0.1


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

    #: Whether a BatchNorm follows global pooling, which torch cannot train on a single image.
    needs_two_images = False

    def __init__(self, model: Any, *, dropout: float | None) -> None:
        super().__init__()
        self.encoder = model.encoder
        self.decoder = model.decoder
        self.segmentation_head = model.segmentation_head
        self.name = type(model).__name__
        self.multiple = int(self.encoder.output_stride) if model.requires_divisible_input_shape else 1
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
        if self.needs_two_images and self.training and images.shape[0] < 2:
            raise ConfigError(
                f"{self.name} cannot be trained on one image at a time: its global pooling is batch-normalised",
                hint="set batch_size / accumulate to 2 or more",
            )
        return self.encoder(pad_to_multiple(images, self.multiple))

    def trunk(self, images: Tensor) -> Any:
        """(N, 3, H, W) -> the decoder's output."""
        return self.decoder(self.encode(images))

    def head(self, features: Any, size: tuple[int, int]) -> Tensor:
        return crop(self.segmentation_head(self.dropout(features)), size)

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

    def head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        logits = self.segmentation_head.head[3:](features)
        factor = self.segmentation_head.upsampling_factor
        wide = nn.functional.interpolate(logits, scale_factor=factor, mode="bilinear", align_corners=True)
        return crop(wide, size)


class DeepLabV3(SegmentationModel):
    """smp's DeepLabV3, cut at its own dropout (0.5), which ends the ASPP.

    Trunk: encoder and ASPP. Head: dropout, 3x3 convolution, BatchNorm, ReLU, segmentation head.
    """

    needs_two_images = True

    def place_dropout(self, rate: float | None) -> None:
        _set_rate(self.decoder.aspp.project[3], rate)

    def trunk(self, images: Tensor) -> Tensor:
        return _pyramid(self.decoder.aspp, self.encode(images)[-1])

    def head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        decoder = self.decoder
        decoded = decoder.relu(decoder.bn(decoder.conv(decoder.aspp.project[3:](features))))
        return crop(self.segmentation_head(decoded), size)


class DeepLabV3Plus(SegmentationModel):
    """smp's DeepLabV3+, cut at its own dropout (0.5), which ends the ASPP.

    Trunk: encoder, ASPP and the low-level branch. Head: dropout, the rest of the decoder, segmentation head.
    """

    needs_two_images = True

    def place_dropout(self, rate: float | None) -> None:
        _set_rate(self.decoder.aspp[0].project[3], rate)

    def trunk(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.encode(images)
        return _pyramid(self.decoder.aspp[0], maps[-1]), self.decoder.block1(maps[2])

    def head(self, features: tuple[Tensor, Tensor], size: tuple[int, int]) -> Tensor:
        pyramid, low_level = features
        decoder = self.decoder
        high_level = decoder.up(decoder.aspp[1:](decoder.aspp[0].project[3:](pyramid)))
        decoded = decoder.block2(torch.cat([high_level, low_level], dim=1))
        return crop(self.segmentation_head(decoded), size)


def _pyramid(aspp: Any, features: Tensor) -> Tensor:
    """Atrous spatial pyramid pooling up to its dropout (Chen et al. 2017, section 3.3)."""
    pyramid: Tensor = aspp.project[:3](torch.cat([branch(features) for branch in aspp.convs], dim=1))
    return pyramid


def _set_rate(dropout: Any, rate: float | None) -> None:
    dropout.inplace = False  # the trunk's features are used by every pass
    if rate is not None:
        dropout.p = check_dropout(rate)


# --- the registered names ---


@register_backbone("smp")
def smp(
    num_classes: int,
    *,
    architecture: str = "Unet",
    encoder: str = "resnet34",
    weights: Literal["imagenet", "none"] | Path = "imagenet",
    dropout: float | None = None,
) -> Backbone:
    """Any segmentation-models-pytorch architecture and encoder, cut at its dropout.

    Args:
        architecture: Unet, UnetPlusPlus, MAnet, Linknet, FPN, PSPNet, DeepLabV3, DeepLabV3Plus, PAN, UPerNet,
            Segformer or DPT, in any case.
        encoder: an encoder of smp, or "tu-NAME" for a timm model.
        weights: "imagenet", "none", or a file for the encoder or the whole network.
        dropout: rate of the dropout; null: the architecture's own (DeepLab 0.5, FPN and PSPNet 0.2, DPT 0.1), or 0.1
            before the last layer where it has none.
    """
    return _build(num_classes, architecture, encoder, weights, dropout)


@register_backbone("unet")
def unet(
    num_classes: int,
    *,
    encoder: str = "resnet34",
    weights: Literal["imagenet", "none"] | Path = "imagenet",
    dropout: float = 0.1,
) -> Backbone:
    """U-Net (Ronneberger et al. 2015; smp's Unet) with a dropout put before its last layer.

    Args:
        encoder: an encoder of smp, or "tu-NAME" for a timm model.
        weights: "imagenet", "none", or a file for the encoder or the whole network.
        dropout: rate of the added dropout.
    """
    return _build(num_classes, "Unet", encoder, weights, dropout)


@register_backbone("deeplabv3")
def deeplabv3(
    num_classes: int,
    *,
    encoder: str = "resnet50",
    weights: Literal["imagenet", "none"] | Path = "imagenet",
    dropout: float = 0.5,
) -> Backbone:
    """DeepLabV3 (Chen et al. 2017; smp's, output stride 8), cut at the dropout that ends its ASPP.

    Args:
        encoder: an encoder of smp, or "tu-NAME" for a timm model.
        weights: "imagenet", "none", or a file for the encoder or the whole network.
        dropout: rate of the ASPP's dropout.
    """
    return _build(num_classes, "DeepLabV3", encoder, weights, dropout)


@register_backbone("deeplabv3plus")
def deeplabv3plus(
    num_classes: int,
    *,
    encoder: str = "resnet50",
    weights: Literal["imagenet", "none"] | Path = "imagenet",
    dropout: float = 0.5,
) -> Backbone:
    """DeepLabV3+ (Chen et al. 2018; smp's, output stride 16), cut at the dropout that ends its ASPP.

    Args:
        encoder: an encoder of smp, or "tu-NAME" for a timm model.
        weights: "imagenet", "none", or a file for the encoder or the whole network.
        dropout: rate of the ASPP's dropout.
    """
    return _build(num_classes, "DeepLabV3Plus", encoder, weights, dropout)


_ARCHITECTURES: dict[str, Any] = {
    model.__name__: model
    for model in (
        library.Unet,
        library.UnetPlusPlus,
        library.MAnet,
        library.Linknet,
        library.FPN,
        library.PSPNet,
        library.DeepLabV3,
        library.DeepLabV3Plus,
        library.PAN,
        library.UPerNet,
        library.Segformer,
        library.DPT,
    )
}
_CUTS: dict[str, type[SegmentationModel]] = {"DPT": DPT, "DeepLabV3": DeepLabV3, "DeepLabV3Plus": DeepLabV3Plus}


def _build(
    num_classes: int, architecture: str, encoder: str, weights: str | Path, dropout: float | None
) -> SegmentationModel:
    if dropout is not None:
        check_dropout(dropout)
    name = {known.lower(): known for known in _ARCHITECTURES}.get(architecture.lower())
    if name is None:
        lower = {known.lower(): known for known in _ARCHITECTURES}
        near = did_you_mean(architecture.lower(), lower)
        hint = near or f"known: {', '.join(_ARCHITECTURES)}"
        raise UnknownNameError(f"unknown smp architecture '{architecture}'", hint=hint)
    _check_encoder(encoder, pretrained=weights == "imagenet")
    options: dict[str, Any] = {"encoder_weights": None}
    if weights == "imagenet":
        options["encoder_weights"] = True if encoder.startswith("tu-") else "imagenet"
    if name == "DPT":
        options["dynamic_img_size"] = True  # else its transformer takes one image size only
    try:
        with model_hub(f"smp's {encoder}", wanted=weights == "imagenet"):
            model = _ARCHITECTURES[name](encoder_name=encoder, classes=num_classes, in_channels=3, **options)
    except (ValueError, KeyError, TypeError, NotImplementedError) as error:
        # How smp says that an encoder does not go with an architecture.
        words = str(error).strip("'\"").splitlines() or [type(error).__name__]
        raise ConfigError(
            f"smp cannot build {name} on encoder '{encoder}': {words[0]}", hint="take another encoder"
        ) from error
    network = _CUTS.get(name, SegmentationModel)(model, dropout=dropout)
    if isinstance(weights, Path):
        load_file(network, network.encoder, weights, name=f"{name} ({encoder})")
    return network


def _check_encoder(name: str, *, pretrained: bool) -> None:
    """Raises UnknownNameError, or ParameterError when it has no ImageNet weights."""
    settings = library.encoders.encoders
    if name.startswith("tu-"):
        known = timm.is_model(name.removeprefix("tu-"))
        has_weights = known and timm.is_model_pretrained(name.removeprefix("tu-"))
    else:
        known = name in settings
        has_weights = known and "imagenet" in settings[name]["pretrained_settings"]
    if not known:
        candidates = [*settings, *(f"tu-{model}" for model in timm.list_models())]
        hint = did_you_mean(name, candidates) or "`tu-NAME` takes any timm model"
        raise UnknownNameError(f"unknown smp encoder '{name}'", hint=hint)
    if pretrained and not has_weights:
        raise ParameterError(
            f"smp has no ImageNet weights for encoder '{name}'", parameter="weights", hint="set `weights: none`"
        )
