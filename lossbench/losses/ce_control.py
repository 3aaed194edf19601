"""Cross-entropy with the side effects of Monte-Carlo passes: a control."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from lossbench.errors import ConfigError
from lossbench.losses._moments import Resample
from lossbench.losses._pixel import check_choice, check_number
from lossbench.losses.ce import cross_entropy
from lossbench.registry import register_loss


@register_loss("ce_control")
class CrossEntropyControl(nn.Module):
    """Cross-entropy with what T naive Monte-Carlo passes do to a run beside the loss, and nothing else: a control.

    A plain script that calls its model T more times in training mode also draws T more dropout masks from the one
    random generator that shuffles and crops, and updates the running statistics of BatchNorm T more times. Whatever
    these change is no merit of a loss. The loss itself is the mean of -log p_y, in every bit that of `ce`.

    Source: none; the side effects of DF and CDFL (Su et al. 2022) and U-CE (Landgraf et al. 2024) as one would first
    write them. lossbench's own `df`, `cdfl` and `uce` have neither.

    Args:
        passes: T >= 1.
        random_stream: `kept`, or `shifted`: sample order, crops, flips and dropout masks are those of another stream,
            named by T; initial weights stay. What draws from one shared generator in T passes come to.
        batchnorm: `kept`, or `updated`: before each step's backward pass T passes of the whole network in training
            mode, with random numbers of their own and no gradient, update the running statistics T more times.
            Weights are trained as ever; evaluation sees the other statistics.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Attributes:
        extra_forwards: T with `batchnorm: updated`, else 0.
        plain_passes: whether `resample` must be a plain pass of the whole network: `lambda: model(images)`.
        random_shift: names the other random stream; empty with `random_stream: kept`.

    Raises:
        ParameterError: a number out of range or an unknown option.
        ConfigError: no resample with `batchnorm: updated`; wrong shape or dtype, or a label outside 0..C-1 (on CPU).
    """

    def __init__(
        self,
        *,
        passes: int = 5,
        random_stream: Literal["kept", "shifted"] = "kept",
        batchnorm: Literal["kept", "updated"] = "kept",
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        check_number("ce_control", "passes", passes, low=1)
        check_choice("ce_control", "random_stream", random_stream, ("kept", "shifted"))
        check_choice("ce_control", "batchnorm", batchnorm, ("kept", "updated"))
        self.passes = passes
        self.ignore_index = ignore_index
        #: See `lossbench.losses`: optional parts of a loss's contract.
        self.plain_passes = batchnorm == "updated"
        self.extra_forwards = passes if self.plain_passes else 0
        self.random_shift: tuple[str | int, ...] = ("shifted", passes) if random_stream == "shifted" else ()

    def forward(self, logits: Tensor, target: Tensor, resample: Resample | None = None) -> Tensor:
        if self.plain_passes:
            if not callable(resample):
                raise ConfigError(
                    "ce_control with batchnorm: updated needs a third argument, resample: a plain pass of the network",
                    hint="in training mode: loss(logits, target, resample=lambda: model(images))",
                )
            with torch.no_grad():
                for _ in range(self.passes):
                    resample()
        return cross_entropy(logits, target, ignore_index=self.ignore_index)

    def extra_repr(self) -> str:
        stream = "shifted" if self.random_shift else "kept"
        norms = "updated" if self.plain_passes else "kept"
        return f"passes={self.passes}, random_stream={stream!r}, batchnorm={norms!r}, ignore_index={self.ignore_index}"
