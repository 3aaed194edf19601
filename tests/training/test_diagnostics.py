"""The log of a loss's diagnostics: which points are kept, how small, what is refused."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lossbench.errors import ConfigError
from lossbench.losses import CrossDropoutFocalLoss
from lossbench.training.diagnostics import CLASS_POINTS, DiagnosticLog, class_stride, rounded
from tests.factories import make_record
from tests.losses.batches import batch, noisy, replay


class Talker(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.classes, self.calls = classes, 0
        self.diagnostics = {"cheap": torch.tensor(1 / 3)}

    def diagnose(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        assert not torch.is_grad_enabled()
        self.calls += 1
        return {"by_class": torch.full((self.classes,), float(self.calls)), "dear": torch.tensor(torch.nan)}


def run(log_points: int, classes: int = 3, every: int = 10) -> dict[str, list]:
    log, loss = DiagnosticLog(log_points), Talker(classes)
    for index in range(log_points):
        log.read(loss, "talker", torch.zeros(1), torch.zeros(1))
        log.keep(index * every, index, last=index == log_points - 1)
    return log.series


def test_numbers_at_every_point_and_lists_at_few() -> None:
    series = run(200)
    assert series["cheap"] == [0.333333] * 200
    assert len(series["dear"]) == 200
    assert math.isnan(series["dear"][0])
    assert len(series["by_class"]) == len(series["class_steps"]) == 20
    assert series["class_steps"][0] == 0
    assert series["class_steps"][-1] == 1990
    assert series["by_class"] == [[step / 10 + 1] * 3 for step in series["class_steps"]]


def test_a_short_run_keeps_all() -> None:
    assert run(8)["class_steps"] == [0, 10, 20, 30, 40, 50, 60, 70]


@given(st.integers(1, 200), st.integers(1, 400))
def test_series_per_class_stay_small(points: int, classes: int) -> None:
    stride = class_stride(points, classes)
    kept = sum(index % stride == 0 or index == points - 1 for index in range(points))
    assert 1 <= kept <= CLASS_POINTS
    assert kept * classes <= 800


def test_what_df_logs_stays_small_in_a_record() -> None:
    logits, target = batch(classes=59, size=(1, 16, 16))
    _, record, _ = make_record()
    bare = len(record.to_json())
    loss, log = CrossDropoutFocalLoss(), DiagnosticLog(200)
    loss(logits, target, replay(noisy(logits)))
    for index in range(200):
        log.read(loss, "cdfl", logits, target)
        log.keep(index, index, last=index == 199)
    record.diagnostics = log.series
    assert len(record.to_json()) - bare < 30_000
    json.loads(record.to_json())


@pytest.mark.parametrize("value", [torch.zeros(2, 2), 1.0])
def test_other_answers_are_refused(value: object) -> None:
    loss = Talker()
    loss.diagnostics = {"map": value}  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="loss 'talker': the diagnostic 'map' is not a tensor of 0 or 1"):
        DiagnosticLog(1).read(loss, "talker", torch.zeros(1), torch.zeros(1))


def test_six_digits() -> None:
    assert [rounded(x) for x in (1.23456789e-7, 123456789.0, 0.1)] == [1.23457e-07, 123457000.0, 0.1]
