"""Evaluation's own parts; its counts are tested beside the confusion matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lossbench.training.evaluate import predict


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_prediction_is_the_lowest_of_equals_in_either_layout(layout: torch.memory_format) -> None:
    logits = torch.randint(0, 3, (2, 7, 9, 11), generator=torch.Generator().manual_seed(0)).float()  # full of ties
    logits[0, 3, 0, 0] = float("nan")
    prediction = predict(logits.contiguous(memory_format=layout))
    assert prediction.dtype == torch.int64
    np.testing.assert_array_equal(prediction.numpy(), logits.numpy().argmax(1))
    assert prediction[0, 0, 0] == 3
