"""Backbones with one fault each: every rule about backbones must be able to fail. A plugin file, loaded by path."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossbench.backbones.base import Backbone, Narrow
from lossbench.registry import register_backbone


@register_backbone("sound")
class Sound(Backbone):
    """Nothing wrong: shows that the scaffold of the others is not what fails."""

    def __init__(self, num_classes: int, *, dropout: float = 0.2) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Conv2d(8, num_classes, 1)

    def trunk(self, images: Tensor) -> Tensor:
        return self.encoder(images)

    def head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(self.last(self.dropout(features)), size=size, mode="bilinear", align_corners=False)

    def encoder_parameters(self) -> list[nn.Parameter]:
        return list(self.encoder.parameters())


@register_backbone("undocumented")
class Undocumented(Sound):
    pass


@register_backbone("all_encoder")
class AllEncoder(Sound):
    """Every parameter is the encoder's: nothing is left for the head's learning rate."""

    def encoder_parameters(self) -> list[nn.Parameter]:
        return list(self.parameters())


@register_backbone("computed_default")
class ComputedDefault(Sound):
    """Listing it means importing torch."""

    def __init__(self, num_classes: int, *, dropout: float = 1 / 5) -> None:
        super().__init__(num_classes, dropout=dropout)


@register_backbone("no_backbone")
class NoBackbone(nn.Conv2d):
    """A plain module."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(3, num_classes, 1)


@register_backbone("multiple_of_8")
class MultipleOf8(Sound):
    """Logits of a size rounded down."""

    def head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        return super().head(features, (size[0] // 8 * 8, size[1] // 8 * 8))


@register_backbone("binary_is_special")
class BinaryIsSpecial(Sound):
    """One channel for two classes, as in one-vs-rest habits."""

    def __init__(self, num_classes: int, *, dropout: float = 0.2) -> None:
        super().__init__(1 if num_classes == 2 else num_classes, dropout=dropout)


@register_backbone("misreads_strides")
class MisreadsStrides(Sound):
    """Takes the memory for NCHW whatever the strides say."""

    def trunk(self, images: Tensor) -> Tensor:
        n, c, h, w = images.shape
        return super().trunk(images.as_strided((n, c, h, w), (c * h * w, h * w, w, 1)))


@register_backbone("dead_branch")
class DeadBranch(Sound):
    """A parameter that nothing uses: DistributedDataParallel waits for it forever."""

    def __init__(self, num_classes: int, *, dropout: float = 0.2) -> None:
        super().__init__(num_classes, dropout=dropout)
        self.auxiliary = nn.Conv2d(8, num_classes, 1)


@register_backbone("detached_encoder")
class DetachedEncoder(Sound):
    """The encoder never learns."""

    def trunk(self, images: Tensor) -> Tensor:
        return super().trunk(images).detach()


@register_backbone("forgets_scale")
class ForgetsScale(Sound):
    """A random constant that no state_dict saves."""

    def __init__(self, num_classes: int, *, dropout: float = 0.2) -> None:
        super().__init__(num_classes, dropout=dropout)
        self.scale = torch.rand(1).item() + 1

    def trunk(self, images: Tensor) -> Tensor:
        return super().trunk(images) * self.scale


@register_backbone("python_seeded")
class PythonSeeded(Sound):
    """Initial weights from Python's generator."""

    def __init__(self, num_classes: int, *, dropout: float = 0.2) -> None:
        super().__init__(num_classes, dropout=dropout)
        nn.init.constant_(self.last.bias, random.random())


@register_backbone("own_forward")
class OwnForward(Sound):
    """forward is not the two parts."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + 1e-6


@register_backbone("noisy_trunk")
class NoisyTrunk(Sound):
    """Noise in the trunk: passes of the head do not show it."""

    def trunk(self, images: Tensor) -> Tensor:
        features = super().trunk(images)
        return F.dropout(features, 0.1, self.training)


@register_backbone("dropout_in_trunk")
class DropoutInTrunk(Sound):
    """The cut lies behind the dropout."""

    def trunk(self, images: Tensor) -> Tensor:
        return self.dropout(super().trunk(images))

    def head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(self.last(features), size=size, mode="bilinear", align_corners=False)


@register_backbone("without_dropout")
class WithoutDropout(Sound):
    """No dropout: Monte-Carlo losses would see the same logits every time."""

    def head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(self.last(features), size=size, mode="bilinear", align_corners=False)


@register_backbone("functional_dropout")
class FunctionalDropout(Sound):
    """A dropout without a module: nothing can switch it on in eval mode."""

    def head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        return super().head(F.dropout(features, 0.3, self.training), size)


@register_backbone("changes_features")
class ChangesFeatures(Sound):
    """The head writes to the features, so the second pass starts from others."""

    def head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        return super().head(features.mul_(0.9), size)


@register_backbone("counts_heads")
class CountsHeads(Sound):
    """Statistics of its own that every head updates."""

    def __init__(self, num_classes: int, *, dropout: float = 0.2) -> None:
        super().__init__(num_classes, dropout=dropout)
        self.register_buffer("mean", torch.zeros(()))

    def head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        self.mean.lerp_(features.detach().mean(), 0.1)
        return super().head(features, size)


@register_backbone("warms_up")
class WarmsUp(Sound):
    """The first head after a trunk drops less than those that follow it: no pass is wrong, only their distribution."""

    def trunk(self, images: Tensor) -> Tensor:
        self.heads = 0
        return super().trunk(images)

    def head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        self.heads += 1
        if self.heads > 1:
            features = self.dropout(features)
        return super().head(features, size)


@register_backbone("wrong_narrow")
class WrongNarrow(Sound):
    """Its narrow form has no dropout."""

    def narrow(self, features: Tensor, size: tuple[int, int]) -> Narrow:
        return Narrow(self.last(features), size)


@register_backbone("cannot_be_built")
class CannotBeBuilt(Sound):
    """Its constructor raises."""

    def __init__(self, num_classes: int) -> None:
        raise RuntimeError("no luck")


@register_backbone("declared")
class Declared(WithoutDropout):
    """Has no dropout and says so."""

    conformance_exceptions = dict.fromkeys(("dropout", "resample", "resample_distribution"), "has no dropout")
