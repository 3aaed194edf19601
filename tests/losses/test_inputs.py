"""Bad input to a loss: one clear line; over all registered losses."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

import lossbench.losses
from lossbench.errors import ConfigError, ParameterError
from lossbench.losses import (
    BalancedCrossEntropyLoss,
    CrossDropoutFocalLoss,
    CrossEntropyLoss,
    DropoutFocalLoss,
    FocalLoss,
    TverskyLoss,
)
from lossbench.registry import Plugin, Registry
from tests.losses.batches import batch

LOSSES = list(Registry("loss"))
every_loss = pytest.mark.parametrize("plugin", LOSSES, ids=lambda plugin: plugin.name)
MISSION = ["balanced_ce", "cdfl", "ce", "df", "dice", "focal", "jaccard", "lovasz_softmax", "tversky"]


def call(plugin: Plugin, logits: Any, target: Any) -> torch.Tensor:
    loss = plugin.build({}, num_classes=4, class_counts=[40, 30, 20, 10])
    return loss(logits, target, lambda: logits) if getattr(loss, "extra_forwards", 0) else loss(logits, target)


LOGITS, TARGET = batch()
BAD = {
    "three axes": (LOGITS[0], TARGET[0], r"logits must be \(N, C, H, W\)"),
    "no classes": (LOGITS[:, :0], TARGET, "with C >= 1"),
    "integer logits": (LOGITS.long(), TARGET, "floating point"),
    "one-hot target": (
        LOGITS,
        torch.zeros(LOGITS.shape, dtype=torch.long),
        r"target must be \(N, H, W\) = \(2, 3, 4\)",
    ),
    "channel axis": (LOGITS, TARGET[:, None], r"target must be \(N, H, W\)"),
    "another size": (LOGITS, TARGET[:, :2], r"got shape \(2, 2, 4\)"),
    "float target": (LOGITS, TARGET.double(), "must be int64"),
    "uint8 target": (LOGITS, TARGET.to(torch.uint8), "must be int64"),
    "not tensors": (LOGITS.tolist(), TARGET, "two tensors"),
    "another device": (LOGITS, TARGET.to("meta"), "on cpu, target is on meta"),
    "label too large": (
        LOGITS,
        torch.where(TARGET == 1, 4, TARGET),
        r"label 4, but the logits have 4 classes \(0 to 3\)",
    ),
    "label far too large": (LOGITS, torch.where(TARGET == 1, 254, TARGET), "label 254"),
    "negative label": (LOGITS, torch.where(TARGET == 1, -1, TARGET), "label -1"),
}


@pytest.mark.parametrize("name", MISSION)
@pytest.mark.parametrize("bad", BAD)
def test_bad_batches(name: str, bad: str) -> None:
    logits, target, message = BAD[bad]
    with pytest.raises(ConfigError, match=message):
        call(Registry("loss").get(name), logits, target)


@pytest.mark.parametrize("name", MISSION)
def test_empty_batch_is_0(name: str) -> None:
    assert call(Registry("loss").get(name), LOGITS[:0], TARGET[:0]) == 0


def test_hint_for_a_channel_axis() -> None:
    with pytest.raises(ConfigError) as caught:
        CrossEntropyLoss()(LOGITS, TARGET[:, None])
    assert caught.value.hint == "drop its channel axis: target.squeeze(1)"


@pytest.mark.parametrize(
    ("make", "parameter"),
    [
        (lambda: CrossEntropyLoss(label_smoothing=-0.1), "label_smoothing"),
        (lambda: CrossEntropyLoss(label_smoothing=1.0), "label_smoothing"),
        (lambda: FocalLoss(gamma=-1.0), "gamma"),
        (lambda: FocalLoss(gamma=float("nan")), "gamma"),
        (lambda: FocalLoss(alpha=-1.0), "alpha"),
        (lambda: FocalLoss(alpha=[0.5, -0.5]), "alpha"),
        (lambda: FocalLoss(alpha=[0.5, 0.5], num_classes=3), "alpha"),
        (lambda: FocalLoss(alpha=[]), "alpha"),
        (lambda: TverskyLoss(alpha=-0.1), "alpha"),
        (lambda: TverskyLoss(beta=0.0), "beta"),
        (lambda: BalancedCrossEntropyLoss([1, 2], counts="image"), "counts"),
        (lambda: BalancedCrossEntropyLoss([1, 2], normalise="no"), "normalise"),
        (lambda: BalancedCrossEntropyLoss(), "counts"),
        (lambda: DropoutFocalLoss(passes=0), "passes"),
        (lambda: DropoutFocalLoss(gamma=-0.5), "gamma"),
        (lambda: DropoutFocalLoss(alpha=float("inf")), "alpha"),
        (lambda: DropoutFocalLoss(u_at="everywhere"), "u_at"),
        (lambda: DropoutFocalLoss(u_scale="std"), "u_scale"),
        (lambda: DropoutFocalLoss(log_p="mean"), "log_p"),
        (lambda: CrossDropoutFocalLoss(omega=-0.01), "omega"),
        (lambda: CrossDropoutFocalLoss(passes=0), "passes"),
    ],
)
def test_bad_parameters(make: Any, parameter: str) -> None:
    with pytest.raises(ParameterError, match=parameter) as caught:
        make()
    assert caught.value.parameter == parameter


@pytest.mark.parametrize("counts", [[-1, 2], [0, 0], [], [[1, 2]], [1.0, float("nan")]])
def test_bad_counts(counts: Any) -> None:
    with pytest.raises(ConfigError, match="class_counts must be"):
        BalancedCrossEntropyLoss(counts)


@pytest.mark.parametrize("loss", [BalancedCrossEntropyLoss([1, 2, 3]), FocalLoss(alpha=[1.0, 2.0, 3.0])])
def test_another_number_of_classes_than_the_logits(loss: torch.nn.Module) -> None:
    with pytest.raises(ConfigError, match="3 values, but the logits have 4 classes"):
        loss(*batch())


# --- the package ---


@every_loss
def test_every_loss_is_importable_from_the_package(plugin: Plugin) -> None:
    assert getattr(lossbench.losses, plugin.attribute) is plugin.load()
    assert plugin.attribute in dir(lossbench.losses)


def test_unknown_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'FocusLoss'"):
        _ = lossbench.losses.FocusLoss


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, lossbench.losses; dir(lossbench.losses); print('torch' in sys.modules)"
    assert run_python(code) == "False"


def test_a_loss_pulls_in_torch_and_nothing_else_that_is_heavy() -> None:
    code = """
import sys, torch
before = set(sys.modules)
from lossbench.losses import CrossDropoutFocalLoss, FocalLoss, LovaszSoftmaxLoss
print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))
print(*sorted(name for name in sys.modules if name.startswith('lossbench.') and name.count('.') == 1))
"""
    new, ours = run_python(code).splitlines()
    assert not {"torchvision", "pandas", "pydantic", "timm", "segmentation_models_pytorch", "rich"} & set(new.split())
    assert set(ours.split()) == {
        "lossbench.errors",
        "lossbench.losses",
        "lossbench.registry",
        "lossbench.plugin",
        "lossbench.signatures",
        "lossbench.terms",
    }
