"""torchvision's FCN on a dilated ResNet (output stride 8)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, ResNet101_Weights
from torchvision.models.segmentation import fcn_resnet50 as torchvision_fcn_resnet50
from torchvision.models.segmentation import fcn_resnet101 as torchvision_fcn_resnet101

from lossbench.backbones._layers import check_dropout
from lossbench.backbones._weights import check_weights, fetch, load_file, load_state
from lossbench.backbones.base import Backbone, Narrow
from lossbench.registry import register_backbone


class TorchvisionFCN(Backbone):
    """torchvision's FCN, cut before the dropout of its head.

    Trunk: the ResNet and the head's 3x3 convolution, BatchNorm and ReLU. Head: dropout, 1x1 convolution, bilinear
    upsampling. Submodules are named as in torchvision, so its state dicts load.

    Args:
        model: what `torchvision.models.segmentation.fcn_resnet*` returns, without auxiliary head.
        dropout: rate of the head's dropout (torchvision: 0.1).
    """

    def __init__(self, model: nn.Module, *, dropout: float) -> None:
        super().__init__()
        self.backbone = model.get_submodule("backbone")
        self.classifier = nn.Sequential(*model.get_submodule("classifier").children())
        self.classifier[3] = nn.Dropout(check_dropout(dropout))

    def trunk(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 512, H/8, W/8)."""
        features: Tensor = self.classifier[:3](self.backbone(images)["out"])
        return features

    def narrow(self, features: Tensor, size: tuple[int, int]) -> Narrow:
        return Narrow(self.classifier[3:](features), size)

    def head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        return self.narrow(features, size).widened(size)

    def encoder_parameters(self) -> list[nn.Parameter]:
        return list(self.backbone.parameters())


@register_backbone("fcn_resnet50")
def fcn_resnet50(
    num_classes: int, *, weights: Literal["imagenet", "none"] | Path = "imagenet", dropout: float = 0.1
) -> Backbone:
    """torchvision's FCN on ResNet-50, output stride 8 (Long et al. 2015; the default of the CDFL paper's "FCN").

    Args:
        weights: "imagenet" (torchvision's IMAGENET1K_V1), "none", or a file for the encoder or the whole network.
        dropout: rate of the dropout before the last layer.
    """
    return _build(
        "fcn_resnet50", torchvision_fcn_resnet50, ResNet50_Weights.IMAGENET1K_V1, num_classes, weights, dropout
    )


@register_backbone("fcn_resnet101")
def fcn_resnet101(
    num_classes: int, *, weights: Literal["imagenet", "none"] | Path = "imagenet", dropout: float = 0.1
) -> Backbone:
    """torchvision's FCN on ResNet-101, output stride 8 (Long et al. 2015).

    Args:
        weights: "imagenet" (torchvision's IMAGENET1K_V1), "none", or a file for the encoder or the whole network.
        dropout: rate of the dropout before the last layer.
    """
    return _build(
        "fcn_resnet101", torchvision_fcn_resnet101, ResNet101_Weights.IMAGENET1K_V1, num_classes, weights, dropout
    )


def _build(
    name: str,
    construct: Callable[..., nn.Module],
    imagenet: ResNet50_Weights | ResNet101_Weights,
    num_classes: int,
    weights: str | Path,
    dropout: float,
) -> Backbone:
    check_weights(weights)
    check_dropout(dropout)
    model = construct(weights=None, weights_backbone=None, aux_loss=False, num_classes=num_classes)
    network = TorchvisionFCN(model, dropout=dropout)
    if isinstance(weights, Path):
        load_file(network, network.backbone, weights, name=name)
    elif weights == "imagenet":
        load_state(network, network.backbone, fetch(name, imagenet), source=str(imagenet), name=name)
    return network
