"""The backbone `my_backbone`: replace the layers, keep the cut.

    lossbench check my_backbone.py
    lossbench check my_backbone.py --param width=64

In a suite:

    plugins: [./my_backbone.py]
    backbones: [my_backbone]

The cut: `trunk` is deterministic and runs once a step; `head` holds every dropout and
is repeated for Monte-Carlo losses, at a fraction of the cost of whole passes.
`forward` is `head(trunk(x), x.shape[-2:])`: do not override it.
"""

from torch import Tensor, nn
from torch.nn import functional

from lossbench.backbones.base import Backbone
from lossbench.registry import register_backbone


@register_backbone("my_backbone")
class MyBackbone(Backbone):
    """What `lossbench list` shows: three convolutions, stride 4.

    Args:
        num_classes: channels of the logits; filled in by the dataset.
        width: channels of the widest layer.
        dropout: rate of the dropout before the last layer.
    """

    # Keyword-only, typed, with plain defaults: what a suite may set. An architecture
    # without dropout gets one before its last layer, so that every loss sees the same
    # network. Initial weights come from torch's generator alone.
    def __init__(
        self,
        num_classes: int,
        *,
        width: int = 32,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width // 2),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(dropout)  # a layer, not functional.dropout
        self.last = nn.Conv2d(width, num_classes, 1)

    def trunk(self, images: Tensor) -> Tensor:
        """(N, 3, H, W), any H and W -> a tensor, or a tuple or dict of them."""
        features: Tensor = self.encoder(images)
        return features

    def head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (N, num_classes, *size). Do not write to the features."""
        logits = self.last(self.dropout(features))
        return functional.interpolate(logits, size=size, mode="bilinear")

    def encoder_parameters(self) -> list[nn.Parameter]:
        """The pre-trained part; others train at `head_lr_factor` x the rate."""
        return list(self.encoder.parameters())
