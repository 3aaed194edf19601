"""Devices by name, and what `auto` stands for where a worker wakes up."""

from __future__ import annotations

import pytest

from lossbench.errors import SetupError
from lossbench.execution import devices


def test_auto_is_what_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "discover", lambda: ["cuda:0", "cuda:1", "cuda:2"])
    assert devices.resolve(("auto",)) == ("cuda:0",)
    assert devices.resolve(("auto", "auto")) == ("cuda:0", "cuda:1")
    assert devices.resolve(("cuda:2",)) == ("cuda:2",)
    with pytest.raises(SetupError, match="4 GPUs were asked for, this machine gives 3"):
        devices.resolve(("auto",) * 4)


def test_auto_without_a_gpu_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "discover", lambda: ["cpu"])
    assert devices.resolve(("auto", "auto")) == ("cpu", "cpu")
