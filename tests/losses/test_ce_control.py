"""Cross-entropy with the side effects of Monte-Carlo passes."""

from __future__ import annotations

import pytest
import torch

from lossbench.errors import ConfigError, ParameterError
from lossbench.losses import CrossEntropyControl, CrossEntropyLoss
from lossbench.training.losscall import random_key, takes_resample
from tests.losses.batches import batch, value_and_grad


@pytest.mark.parametrize("batchnorm", ["kept", "updated"])
@pytest.mark.parametrize("stream", ["kept", "shifted"])
def test_it_is_cross_entropy(batchnorm: str, stream: str) -> None:
    logits, target = batch(dtype=torch.float32)
    loss = CrossEntropyControl(passes=3, batchnorm=batchnorm, random_stream=stream)
    calls: list[bool] = []

    def resample() -> torch.Tensor:
        calls.append(torch.is_grad_enabled())
        return torch.full_like(logits, torch.nan)

    value, grad = value_and_grad(lambda z: loss(z, target, resample), logits)
    expected, expected_grad = value_and_grad(lambda z: CrossEntropyLoss()(z, target), logits)
    assert torch.equal(value, expected)
    assert torch.equal(grad, expected_grad)
    assert calls == ([False] * 3 if batchnorm == "updated" else [])
    assert takes_resample(loss) == loss.plain_passes == (batchnorm == "updated")


def test_the_random_key() -> None:
    assert random_key(CrossEntropyLoss(), "k") == "k"
    assert random_key(CrossEntropyControl(), "k") == "k"
    keys = {random_key(CrossEntropyControl(random_stream="shifted", passes=n), "k") for n in (5, 5, 3)}
    assert keys == {'["k","shifted",5]', '["k","shifted",3]'}


def test_wrong_use() -> None:
    logits, target = batch()
    with pytest.raises(ConfigError, match="needs a third argument, resample"):
        CrossEntropyControl(batchnorm="updated")(logits, target)
    with pytest.raises(ParameterError, match="random_stream must be kept or shifted"):
        CrossEntropyControl(random_stream="moved")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="passes must be at least 1"):
        CrossEntropyControl(passes=0)
