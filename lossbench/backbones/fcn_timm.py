"""An FCN on any timm encoder: the small networks for CPUs and quick studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn

from lossbench.backbones._layers import check_dropout, fcn_head, pad_to_multiple, switch_off_dropout, widen
from lossbench.backbones._weights import check_weights, load_file, model_hub
from lossbench.backbones.base import Backbone, Narrow
from lossbench.errors import ConfigError, ParameterError, UnknownNameError, did_you_mean
from lossbench.registry import register_backbone


@register_backbone("fcn_timm")
class TimmFCN(Backbone):
    """FCN head with feature skips on any timm encoder that offers `features_only` (small and fast by default).

    The encoder's levels from the last one up to `head_stride` are brought to `channels` by 1x1 convolutions and
    summed from coarse to fine, each upsampled bilinearly (the skips of Long et al. 2015 taken between features
    as in FPN, Lin et al. 2017, so that the whole head sees them); then torchvision's FCN head. Small networks see
    small images at stride 32 as a handful of positions, hence the default of 8.

    Trunk: encoder, skips, the head's 3x3 convolution, BatchNorm and ReLU. Head: dropout, 1x1 convolution, bilinear
    upsampling. Dropout and drop path inside the encoder are off.

    Args:
        encoder: a timm model name, optionally with a tag for its weights ("resnet18.a1_in1k"). The default is timm's
            smallest plain ResNet (0.4 M parameters), which learns from scratch on a CPU in minutes.
        weights: "imagenet" (the tag's, or timm's default), "none", or a file for the encoder or the whole network.
        dropout: rate of the dropout before the last layer.
        output_stride: stride of the encoder's last level; 8 and 16 dilate it, where the encoder can.
        head_stride: stride of the head's map; at or above the encoder's output stride there are no skips.
        channels: width of the head.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: str = "test_resnet",
        weights: Literal["imagenet", "none"] | Path = "imagenet",
        dropout: float = 0.1,
        output_stride: Literal[8, 16, 32] = 32,
        head_stride: Literal[4, 8, 16, 32] = 8,
        channels: int = 64,
    ) -> None:
        super().__init__()
        check_weights(weights)
        check_dropout(dropout)
        if channels < 1:
            raise ParameterError(f"channels must be positive, got {channels}", parameter="channels")
        self.encoder, self.multiple = _encoder(encoder, pretrained=weights == "imagenet", output_stride=output_stride)
        switch_off_dropout(self.encoder)
        self.channels_last_output = str(getattr(self.encoder, "output_fmt", "NCHW")).endswith("NHWC")
        strides: list[int] = self.encoder.feature_info.reduction()
        widths: list[int] = self.encoder.feature_info.channels()
        self.levels = _levels(strides, head_stride)
        self.laterals = nn.ModuleList()
        if len(self.levels) > 1:
            self.laterals.extend(nn.Conv2d(widths[level], channels, 1) for level in self.levels)
        self.classifier = fcn_head(channels if self.laterals else widths[-1], channels, num_classes, dropout)
        if isinstance(weights, Path):
            load_file(self, self.encoder, weights, name=f"fcn_timm ({encoder})")

    def trunk(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, channels, H/head_stride, W/head_stride)."""
        maps = self.encoder(pad_to_multiple(images, self.multiple))
        if self.channels_last_output:
            maps = [level.permute(0, 3, 1, 2) for level in maps]
        fused: Tensor = maps[self.levels[0]]
        for index, (level, lateral) in enumerate(zip(self.levels, self.laterals, strict=False)):
            here = lateral(maps[level])
            fused = here + widen(fused, (here.shape[-2], here.shape[-1])) if index else here
        features: Tensor = self.classifier[:3](fused)
        return features

    def narrow(self, features: Tensor, size: tuple[int, int]) -> Narrow:
        padded = (size[0] + -size[0] % self.multiple, size[1] + -size[1] % self.multiple)
        return Narrow(self.classifier[3:](features), padded)

    def head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        return self.narrow(features, size).widened(size)

    def encoder_parameters(self) -> list[nn.Parameter]:
        return list(self.encoder.parameters())


def _levels(strides: list[int], head_stride: int) -> list[int]:
    """Indices of the levels that are fused, coarsest (last) first: the deepest of each stride down to `head_stride`."""
    deepest = {stride: level for level, stride in enumerate(strides)}
    last = len(strides) - 1
    return [last, *(deepest[s] for s in sorted(deepest, reverse=True) if head_stride <= s < strides[last])]


def _encoder(name: str, *, pretrained: bool, output_stride: int) -> tuple[Any, int]:
    """(timm's feature extractor, multiple that image sides are padded to)."""
    if not timm.is_model(name):
        known = timm.list_models()
        hint = did_you_mean(name.partition(".")[0], known)
        raise UnknownNameError(f"unknown timm encoder '{name}'", hint=hint or f"timm has {len(known)} of them")
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError as error:  # the tag after the dot
        tags = timm.list_models(f"{name.partition('.')[0]}.*", pretrained=True)
        hint = did_you_mean(name, tags) or f"known: {', '.join(tags)}"
        raise UnknownNameError(f"unknown weights of a timm encoder: '{name}'", hint=hint) from error
    if pretrained and not timm.is_model_pretrained(name):
        raise ParameterError(
            f"timm has no weights for encoder '{name}'", parameter="weights", hint="set `weights: none`"
        )
    options: dict[str, Any] = {"features_only": True}
    if output_stride != 32:
        options["output_stride"] = output_stride
    multiple = 1
    if config is not None and config.fixed_input_size:
        options |= _any_size(name, options)
        multiple = 32
    try:
        with model_hub(f"timm's {name}", wanted=pretrained):
            encoder = timm.create_model(name, pretrained=pretrained, **options)
    except (TypeError, AssertionError, NotImplementedError, ValueError, RuntimeError) as error:
        # How timm says that a model cannot be dilated or has no feature maps.
        if output_stride != 32 and isinstance(error, TypeError | AssertionError | NotImplementedError):
            raise ParameterError(
                f"encoder '{name}' has no output stride {output_stride}",
                parameter="output_stride",
                hint="set `output_stride: 32`, or take another encoder",
            ) from error
        raise ConfigError(
            f"timm encoder '{name}' gives no feature maps: {error}", hint="take another encoder"
        ) from error
    return encoder, multiple


def _any_size(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The option with which a transformer made for one image size takes others. Tried without memory or random
    numbers, on torch's meta device. Raises ConfigError when there is none."""
    candidates: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
    for option in candidates:
        try:
            with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
                timm.create_model(name, pretrained=False, **options, **option)(torch.empty(1, 3, 64, 160))
        except (TypeError, AssertionError, ValueError, RuntimeError):
            continue
        return option
    raise ConfigError(f"timm encoder '{name}' takes images of one size only", hint="take a convolutional encoder")
