"""segmentation-models-pytorch: any of its architectures on any of its encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import segmentation_models_pytorch as library
import timm

from lossbench.backbones._layers import check_dropout
from lossbench.backbones._smp_cuts import CUTS, SegmentationModel
from lossbench.backbones._weights import check_weights, load_file, model_hub
from lossbench.backbones.base import Backbone
from lossbench.errors import ConfigError, ParameterError, UnknownNameError, did_you_mean
from lossbench.registry import register_backbone


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


def _build(
    num_classes: int, architecture: str, encoder: str, weights: str | Path, dropout: float | None
) -> SegmentationModel:
    check_weights(weights)
    if dropout is not None:
        check_dropout(dropout)
    names = {known.lower(): known for known in _ARCHITECTURES}
    name = names.get(architecture.lower())
    if name is None:
        hint = did_you_mean(architecture.lower(), names) or f"known: {', '.join(_ARCHITECTURES)}"
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
    network = CUTS.get(name, SegmentationModel)(model, dropout=dropout)
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
