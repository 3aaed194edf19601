import math

import pytest
import torch
from torch import Tensor, nn

from lossbench.errors import ConfigError
from lossbench.training.losscall import blame, call_loss, extra_forwards, takes_resample


class Returns(nn.Module):
    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value

    def forward(self, logits: Tensor, target: Tensor) -> object:
        return self.value(logits) if callable(self.value) else self.value


LOGITS = torch.zeros(1, 2, 3, 3, requires_grad=True)
TARGET = torch.zeros(1, 3, 3, dtype=torch.int64)


def test_a_good_loss_passes_through() -> None:
    assert call_loss(Returns(lambda z: z.sum()), "good", LOGITS, TARGET, None).item() == 0


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (lambda z: z.sum(dim=0), r"a tensor of shape \(2, 3, 3\)"),
        (lambda z: z.sum(dim=(2, 3)), r"a tensor of shape \(1, 2\)"),
        (1.5, "float"),
        (None, "NoneType"),
        (lambda z: z.argmax(), r"a tensor of shape \(\)"),
        (lambda z: z.detach().sum(), "without gradient"),
    ],
)
def test_what_is_no_scalar_is_named(value: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        call_loss(Returns(value), "mine", LOGITS, TARGET, None)
    assert "'mine'" in caught.value.message
    assert caught.value.hint


def test_a_loss_is_called_with_autocast_off() -> None:
    seen = []

    def look(z: Tensor) -> Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return z.sum()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        call_loss(Returns(look), "x", LOGITS, TARGET, None)
    assert seen == [False]


def test_monte_carlo_losses_are_known_by_their_signature() -> None:
    from lossbench.losses.cdfl import CrossDropoutFocalLoss
    from lossbench.losses.ce import CrossEntropyLoss

    assert takes_resample(CrossDropoutFocalLoss())
    assert not takes_resample(CrossEntropyLoss())
    assert (extra_forwards(CrossDropoutFocalLoss(passes=3)), extra_forwards(CrossEntropyLoss())) == (3, 0)


def test_a_nan_for_sane_logits_is_the_losss_fault() -> None:
    with pytest.raises(ConfigError, match="returned nan at step 7 for finite logits"):
        blame("mine", math.nan, 12.0, 7)


@pytest.mark.parametrize("largest", [math.inf, math.nan, 1e6])
def test_a_nan_for_exploded_logits_is_divergence(largest: float) -> None:
    assert "diverged at step 7" in blame("ce", math.nan, largest, 7)
